//! The configuration, the policies, and the people who are to answer.

use std::{collections::BTreeMap, path::Path};

use nix::unistd::{Group, User};

use super::{Finding, files::owned_by_root};
use crate::{
    config::{Config, Mode, Reviewers},
    daemon::load_policies,
};

pub fn check(path: &Path) -> (Option<Config>, Vec<Finding>) {
    const SUBJECT: &str = "configuration";
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            let advice = "correct it: /usr/share/holdpoint/holdpoint.toml shows every key";
            let failed = Finding::fail(SUBJECT, format!("{error:#}"), advice);
            return (None, vec![failed]);
        }
    };
    let mut findings = vec![Finding::ok(SUBJECT, format!("{} is valid", path.display()))];
    findings.extend(owned_by_root(SUBJECT, path, 0o022));
    findings.extend(owned_by_root("policies", &config.policies, 0o022));
    findings.extend(policies(&config));
    (Some(config), findings)
}

fn policies(config: &Config) -> Vec<Finding> {
    const SUBJECT: &str = "policies";
    let policies = match load_policies(config) {
        Ok((policies, _)) => policies,
        Err(error) => {
            let advice = format!(
                "correct it, and try with `holdpoint policy check {}`",
                config.policies.display()
            );
            return vec![Finding::fail(SUBJECT, format!("{error:#}"), advice)];
        }
    };
    let mut findings = Vec::new();
    if config.policy.mode == Mode::Observe {
        findings.push(Finding::warn(
            SUBJECT,
            "they are only observed: what they deny or would hold passes",
            "set mode = \"enforce\" under [policy] once the record shows nothing unexpected",
        ));
    }
    findings.push(match policies.iter().count() {
        0 => Finding::warn(
            SUBJECT,
            format!(
                "there are none in {}: everything is denied",
                config.policies.display()
            ),
            "copy the shipped ones from /usr/share/holdpoint/policies",
        ),
        count => Finding::ok(SUBJECT, format!("{count} are valid")),
    });
    let groups: BTreeMap<&str, ()> = policies
        .reviewer_groups()
        .map(|(group, _)| (group, ()))
        .collect();
    for group in groups.keys() {
        if let Some(reviewers) = config.reviewers.get(*group) {
            findings.push(people(group, reviewers));
        }
    }
    findings
}

/// Who could answer for a group: known users, and members of known groups.
fn people(group: &str, reviewers: &Reviewers) -> Finding {
    const SUBJECT: &str = "reviewers";
    let mut missing = Vec::new();
    let mut people = reviewers.oidc.len();
    for user in &reviewers.users {
        match User::from_name(user) {
            Ok(Some(_)) => people += 1,
            _ => missing.push(format!("user {user}")),
        }
    }
    for name in &reviewers.unix_groups {
        match Group::from_name(name) {
            // Whose primary group it is, only a search of the whole user database would tell.
            Ok(Some(group)) => people += group.mem.len(),
            _ => missing.push(format!("group {name}")),
        }
    }
    let advice = format!("correct [reviewers.{group}], or add users to its groups");
    let missing = missing.join(", ");
    match (people, missing.is_empty()) {
        (0, true) => Finding::warn(
            SUBJECT,
            format!(
                "\"{group}\" has no member unless by primary group: what it is to approve would expire"
            ),
            advice,
        ),
        (0, false) => Finding::fail(
            SUBJECT,
            format!(
                "\"{group}\" has nobody ({missing} unknown on this host): what it is to approve would expire"
            ),
            advice,
        ),
        (_, false) => Finding::warn(
            SUBJECT,
            format!("\"{group}\" names {missing}, unknown on this host"),
            advice,
        ),
        (people, true) => Finding::ok(SUBJECT, format!("\"{group}\" has {people}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Grade, *};

    fn reviewers(users: &[&str], groups: &[&str]) -> Reviewers {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Reviewers {
            users: owned(users),
            unix_groups: owned(groups),
            oidc: Vec::new(),
        }
    }

    #[test]
    fn reviewers_have_to_exist() {
        let grade = |users: &[&str], groups: &[&str]| people("g", &reviewers(users, groups)).grade;
        assert_eq!(grade(&["root"], &[]), Grade::Ok);
        assert_eq!(grade(&["root", "no-such-user"], &[]), Grade::Warn);
        assert_eq!(grade(&["no-such-user"], &[]), Grade::Fail);
        assert_eq!(grade(&[], &["no-such-group"]), Grade::Fail);
        assert_eq!(grade(&[], &[]), Grade::Warn);
    }

    #[test]
    fn a_configuration_that_is_none_ends_it() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let (config, findings) = check(file.path());
        assert!(config.is_none());
        assert_eq!(findings[0].grade, Grade::Fail);
    }
}
