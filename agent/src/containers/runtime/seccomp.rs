//! The session's system-call filter ([`crate::launch::filter`]) as an OCI runtime is told one
//! (<https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp>).
//!
//! libseccomp compares all 64 bits of an argument, of which the kernel may look at the lower 32 only, and takes two conditions on one
//! argument for alternatives. So what is forbidden is masked, and what is allowed is what is left over.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::launch::filter::{FAMILIES, FORBIDDEN, FORBIDDEN_IOCTLS, MISSING};

/// No family has a higher number yet (AF_MAX in `include/linux/socket.h` of Linux 6.18); all above are forbidden, too.
const LAST_FAMILY: i32 = 46;
const LOWER_HALF: u64 = 0xffff_ffff;

/// The profile for this machine.
///
/// # Errors
/// On machines it is not made for.
pub fn profile() -> anyhow::Result<Value> {
    let machine = match std::env::consts::ARCH {
        "x86_64" => Some("SCMP_ARCH_X86_64"),
        "aarch64" => Some("SCMP_ARCH_AARCH64"),
        _ => None,
    };
    let machine = machine.context("the system-call filter is not made for this machine")?;
    let mut rules = vec![
        rule(&MISSING.map(|(_, name)| name), libc::ENOSYS, &[]),
        rule(&FORBIDDEN.map(|(_, name)| name), libc::EPERM, &[]),
    ];
    rules.extend(families());
    let new_user = libc::CLONE_NEWUSER as u64;
    for call in ["clone", "unshare"] {
        rules.push(rule(&[call], libc::EPERM, &[masked(0, new_user, new_user)]));
    }
    for request in FORBIDDEN_IOCTLS {
        rules.push(rule(&["ioctl"], libc::EPERM, &[is(1, request)]));
    }
    // As if done, as in the session: nothing writes cores.
    let cores = |index| is(index, u64::from(libc::RLIMIT_CORE));
    rules.push(rule(&["setrlimit"], 0, &[cores(0)]));
    rules.push(rule(&["prlimit64"], 0, &[cores(1), condition(2, "NE", 0)]));
    Ok(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        // Calls of all other machines' kill the process.
        "architectures": [machine],
        "syscalls": rules,
    }))
}

fn families() -> Vec<Value> {
    let refused = |conditions: &[Value]| rule(&["socket"], libc::EAFNOSUPPORT, conditions);
    let known = |family: &i32| FAMILIES.contains(family) || *family == libc::AF_NETLINK;
    let mut rules: Vec<_> = (0..=LAST_FAMILY)
        .filter(|family| !known(family))
        .map(|family| refused(&[condition(0, "EQ", family as u64)]))
        .collect();
    rules.push(refused(&[condition(0, "GT", LAST_FAMILY as u64)]));
    rules.push(refused(&[
        condition(0, "EQ", libc::AF_NETLINK as u64),
        condition(2, "NE", libc::NETLINK_ROUTE as u64),
    ]));
    rules.push(rule(
        &["socketpair"],
        libc::EAFNOSUPPORT,
        &[condition(0, "NE", libc::AF_UNIX as u64)],
    ));
    rules
}

fn rule(names: &[&str], errno: i32, conditions: &[Value]) -> Value {
    json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": conditions })
}

fn condition(index: u32, operator: &str, value: u64) -> Value {
    json!({ "index": index, "op": format!("SCMP_CMP_{operator}"), "value": value })
}

fn is(index: u32, value: u64) -> Value {
    masked(index, LOWER_HALF, value)
}

fn masked(index: u32, mask: u64, value: u64) -> Value {
    json!({ "index": index, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rule_has_two_conditions_on_one_argument() {
        let profile = profile().expect("a machine it is made for");
        for rule in profile["syscalls"].as_array().expect("rules") {
            let mut indices: Vec<_> = rule["args"]
                .as_array()
                .expect("conditions")
                .iter()
                .map(|it| it["index"].as_u64())
                .collect();
            indices.sort_unstable();
            let count = indices.len();
            indices.dedup();
            assert_eq!(indices.len(), count, "{rule}");
        }
    }

    #[test]
    fn the_families_left_over_are_the_sessions() {
        let rules = families();
        let refused = |family: i32| {
            rules.iter().any(|rule| {
                let conditions = rule["args"].as_array().expect("conditions");
                rule["names"] == json!(["socket"])
                    && conditions.len() == 1
                    && conditions[0]["op"] == "SCMP_CMP_EQ"
                    && conditions[0]["value"] == family
            })
        };
        let left: Vec<_> = (0..=LAST_FAMILY)
            .filter(|family| !refused(*family))
            .collect();
        assert_eq!(
            left,
            [
                libc::AF_UNIX,
                libc::AF_INET,
                libc::AF_INET6,
                libc::AF_NETLINK
            ]
        );
    }
}
