//! Words for fields of an order that are set and must not be.

use super::super::ask::Refusal;

/// What to say of a field that is set and must not be.
pub fn why_not(field: &str) -> Refusal {
    let why = match field {
        "Privileged" | "CapAdd" | "SecurityOpt" | "UsernsMode" | "GroupAdd" => {
            "a container has the rights of its session, and no more: leave --privileged, --cap-add, --security-opt, --group-add and --userns out"
        }
        "NetworkMode" | "Links" | "ExtraHosts" | "Dns" | "DnsOptions" | "DnsSearch"
        | "NetworkDisabled" | "MacAddress" => {
            "a container is in its session's own network, with the session's resolver: leave --network, --dns and --add-host out"
        }
        "PortBindings" | "PublishAllPorts" => {
            "a container is in its session's own network: what it listens on is at 127.0.0.1 of the session already; leave -p out"
        }
        "PidMode" | "IpcMode" | "UTSMode" | "CgroupnsMode" | "CgroupParent" | "Cgroup" => {
            "a container's processes, hostname, shared memory and cgroup are its own, in its session's cgroup: leave --pid, --ipc, --uts, --cgroupns and --cgroup-parent out"
        }
        "Devices" | "DeviceRequests" | "DeviceCgroupRules" => {
            "containers of a session have no devices of the host's"
        }
        "Runtime" => {
            "containers of a session are started by Holdpoint's runtime: leave --runtime out"
        }
        "Volumes" | "VolumesFrom" | "VolumeDriver" | "Tmpfs" | "StorageOpt" => {
            "only directories and files of the session are mounted (-v \"$PWD:/work\"): no volumes, no tmpfs"
        }
        "RestartPolicy" => {
            "the engine would start it again behind the session's back: leave --restart out"
        }
        "Memory" | "MemorySwap" | "MemoryReservation" | "NanoCpus" | "CpuShares" | "CpuQuota"
        | "CpuPeriod" | "PidsLimit" | "Ulimits" | "CpusetCpus" | "CpusetMems" | "BlkioWeight"
        | "OomKillDisable" | "OomScoreAdj" | "ShmSize" => {
            "a container is bounded by its session's limits (the operator's session.max_memory and session.max_processes), and has none of its own"
        }
        "Sysctls" => "a container changes nothing of the kernel's settings: leave --sysctl out",
        "LogConfig" => {
            "how output is logged is the operator's to say: leave --log-driver and --log-opt out"
        }
        "Init" => "the engine's init is not used here: leave --init out",
        _ => {
            return format!(
                "the field {} is not known here, and has to be left out",
                field.chars().take(80).collect::<String>()
            );
        }
    };
    why.into()
}
