use proptest::prelude::*;

use super::*;

/// What docker 28 sends for `docker run -it --rm -v /home/a:/work -e A=b test:1 sh -c true`, but for what is empty in it.
fn plain() -> Value {
    let text = r#"{
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "Tty": true,
        "OpenStdin": true, "StdinOnce": true, "Env": ["A=b"], "Cmd": ["sh", "-c", "true"], "Image": "test:1", "Volumes": {},
        "WorkingDir": "", "Entrypoint": null, "Labels": { "mine": "1" }, "ExposedPorts": { "80/tcp": {} },
        "HostConfig": {
            "Binds": ["/home/a:/work"], "ContainerIDFile": "", "LogConfig": { "Type": "", "Config": {} }, "NetworkMode": "bridge",
            "PortBindings": {}, "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 }, "AutoRemove": true, "VolumesFrom": null,
            "ConsoleSize": [24, 80], "CapAdd": null, "CapDrop": null, "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [],
            "IpcMode": "", "OomScoreAdj": 0, "PidMode": "", "Privileged": false, "PublishAllPorts": false, "ReadonlyRootfs": false,
            "SecurityOpt": null, "UTSMode": "", "UsernsMode": "", "ShmSize": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "",
            "MemorySwappiness": -1, "OomKillDisable": null, "PidsLimit": null, "Ulimits": [], "MaskedPaths": null, "ReadonlyPaths": null
        },
        "NetworkingConfig": { "EndpointsConfig": { "default": { "IPAMConfig": null, "Links": null, "MacAddress": "", "GwPriority": 0 } } }
    }"#;
    serde_json::from_str(text).expect("JSON")
}

fn user() -> User {
    User {
        uid: 1000,
        gid: 1001,
        name: "agent".into(),
    }
}

fn read(body: &Value) -> Result<Order, Refusal> {
    let session = SessionId::from_cgroup("s-1");
    container(body.to_string().as_bytes(), &session, &user(), "holdpoint")
}

#[test]
fn a_plain_container_is_written_anew() {
    let order = read(&plain()).expect("a container");
    let host = json!({ "AutoRemove": true, "ReadonlyRootfs": false, "Runtime": "holdpoint", "NetworkMode": "none" });
    assert_eq!(order.body["HostConfig"], host);
    assert_eq!(order.body["User"], "1000:1001");
    assert_eq!(order.body["Labels"]["mine"], "1");
    assert_eq!(order.body["Labels"][SESSION_LABEL], "s-1");
    assert_eq!(order.command, ["sh", "-c", "true"]);
    let label = order.body["Labels"][BINDS_LABEL].as_str().expect("text");
    assert_eq!(
        read_binds(label),
        Ok(vec![Bind::parse("/home/a:/work").expect("a mount")])
    );
    for field in ["Binds", "Mounts", "NetworkingConfig", "ExposedPorts"] {
        assert!(order.body.get(field).is_none(), "{field}");
    }
}

#[test]
fn what_asks_for_more_is_refused() {
    for (field, value) in [
        ("Privileged", json!(true)),
        ("CapAdd", json!(["NET_ADMIN"])),
        ("SecurityOpt", json!(["seccomp=unconfined"])),
        ("SecurityOpt", json!(["no-new-privileges=false"])),
        ("NetworkMode", json!("host")),
        ("NetworkMode", json!("none")),
        ("NetworkMode", json!("container:other")),
        ("NetworkMode", json!("ns:/proc/1/ns/net")),
        ("PidMode", json!("host")),
        ("IpcMode", json!("host")),
        ("UTSMode", json!("host")),
        ("UsernsMode", json!("host")),
        ("CgroupnsMode", json!("host")),
        ("CgroupParent", json!("/")),
        ("Runtime", json!("runc")),
        ("Devices", json!([{ "PathOnHost": "/dev/kvm" }])),
        ("DeviceRequests", json!([{ "Count": -1 }])),
        ("DeviceCgroupRules", json!(["c 1:3 rwm"])),
        ("Binds", json!(["/:/host"])),
        (
            "Binds",
            json!(["/var/run/docker.sock:/var/run/docker.sock"]),
        ),
        ("Binds", json!(["volume:/data"])),
        ("Binds", json!("/a:/b")),
        (
            "Mounts",
            json!([{ "Type": "volume", "Source": "v", "Target": "/v" }]),
        ),
        (
            "Mounts",
            json!([{ "Type": "bind", "Source": "/", "Target": "/v" }]),
        ),
        (
            "Mounts",
            json!([{ "Type": "bind", "Source": "/a", "Target": "/v", "BindOptions": { "Propagation": "rshared" } }]),
        ),
        ("VolumesFrom", json!(["other"])),
        ("Tmpfs", json!({ "/x": "" })),
        (
            "ExtraHosts",
            json!(["metadata.google.internal:169.254.169.254"]),
        ),
        ("Dns", json!(["8.8.8.8"])),
        ("PortBindings", json!({ "80/tcp": [{ "HostPort": "80" }] })),
        ("PublishAllPorts", json!(true)),
        ("RestartPolicy", json!({ "Name": "always" })),
        ("Sysctls", json!({ "net.ipv4.ip_forward": "1" })),
        (
            "Ulimits",
            json!([{ "Name": "core", "Soft": -1, "Hard": -1 }]),
        ),
        ("LogConfig", json!({ "Type": "syslog" })),
        ("GroupAdd", json!(["docker"])),
        ("OomScoreAdj", json!(-1000)),
        ("ShmSize", json!(1_u64 << 40)),
        (
            "Annotations",
            json!({ "run.oci.keep_original_groups": "1" }),
        ),
        ("Init", json!(true)),
        ("SomethingNew", json!("x")),
    ] {
        let mut body = plain();
        body["HostConfig"][field] = value.clone();
        let refused = read(&body).expect_err(field);
        assert!(refused.len() > 15, "{field}: {refused}");
    }
    for (field, value) in [
        ("User", json!("0")),
        ("User", json!("root")),
        ("User", json!("1000:0")),
        ("Image", json!("../x")),
        ("Image", json!(null)),
        ("Labels", json!({ "dev.holdpoint.session": "s-2" })),
        ("Labels", json!({ "dev.holdpoint.binds": "[]" })),
        ("Volumes", json!({ "/data": {} , "/x": { "a": 1 } })),
        ("WorkingDir", json!("/proc/self/fd/8")),
        ("HostConfig", json!("x")),
        ("Tty", json!("yes")),
        ("Env", json!([1])),
        (
            "NetworkingConfig",
            json!({ "EndpointsConfig": { "other": {} } }),
        ),
        (
            "NetworkingConfig",
            json!({ "EndpointsConfig": { "bridge": { "IPAddress": "10.0.0.1" } } }),
        ),
        ("MacAddress", json!("02:42:ac:11:00:02")),
        ("ArgsEscaped", json!(true)),
    ] {
        let mut body = plain();
        body[field] = value.clone();
        assert!(read(&body).is_err(), "{field}: {value}");
    }
}

#[test]
fn a_command_in_a_container_has_no_more_than_the_container() {
    let fits = json!({ "User": "", "Privileged": false, "Tty": true, "AttachStdin": true, "Env": null, "Cmd": ["id"], "ConsoleSize": [1, 2], "DetachKeys": "" });
    let ordered = exec(fits.to_string().as_bytes(), &user()).expect("a command");
    assert_eq!(ordered["User"], "1000:1001");
    for (field, value) in [
        ("Privileged", json!(true)),
        ("User", json!("0")),
        ("New", json!(1)),
        ("WorkingDir", json!("/proc/1")),
    ] {
        let mut body = fits.clone();
        body[field] = value;
        assert!(
            exec(body.to_string().as_bytes(), &user()).is_err(),
            "{field}"
        );
    }
    assert!(exec_start(br#"{"Detach":false,"Tty":true,"ConsoleSize":[1,2]}"#).is_ok());
    assert!(exec_start(br#"{"Privileged":true}"#).is_err());
}

proptest! {
    #[test]
    fn whatever_is_asked_the_engine_is_told_the_same_of_rights(
        field in "[A-Z][A-Za-z]{0,12}",
        text in ".{0,12}",
        number: i64,
    ) {
        for value in [json!(text), json!(number), json!([text]), json!({ "a": text })] {
            let mut body = plain();
            body["HostConfig"][&field] = value.clone();
            if let Ok(order) = read(&body) {
                let host = order.body["HostConfig"].as_object().expect("an object");
                let fields = ["AutoRemove", "ReadonlyRootfs", "Runtime", "NetworkMode"];
                prop_assert!(host.keys().all(|it| fields.contains(&it.as_str())));
                prop_assert_eq!(&host["Runtime"], "holdpoint");
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(body: Vec<u8>) {
        let session = SessionId::from_cgroup("s-1");
        let _ = container(&body, &session, &user(), "holdpoint");
        let _ = exec(&body, &user());
        let _ = exec_start(&body);
        let _ = read_binds(&String::from_utf8_lossy(&body));
    }
}
