//! The configuration file of a world.

use std::{fmt::Write as _, fs, path::Path};

use crate::{
    issuer::{AUDIENCE, GROUPS_CLAIM, Issuer},
    stand_in::{ACCOUNT, PROJECT, StandIn, ZONE},
    world::{Credential, Settings},
};

/// All that `settings` ask for; every file lies in `dir`, every kernel object is called `name`.
///
/// # Errors
/// When the policies in `dir` cannot be read.
pub fn text(
    dir: &Path,
    name: &str,
    google: &StandIn,
    issuer: &Issuer,
    settings: &Settings,
) -> anyhow::Result<String> {
    let policies = dir.join("policies");
    let dir = dir.display();
    let mut text = format!(
        "state_dir = \"{dir}/state\"\nruntime_dir = \"{dir}/run\"\npolicies = \"{dir}/policies\"\n\
             bpf_dir = \"/sys/fs/bpf/{name}\"\nagents_cgroup = \"{name}\"\nagents_slice = \"{name}.slice\"\n\n\
             [[issuer]]\nurl = \"{}\"\naudience = \"{AUDIENCE}\"\ngroups_claim = \"{GROUPS_CLAIM}\"\n\n\
             [google]\nproject = \"{PROJECT}\"\naccount = \"{ACCOUNT}\"\nzone = \"{ZONE}\"\n\n",
        issuer.url()
    );
    for url in &settings.issuers {
        write!(
            text,
            "[[issuer]]\nurl = \"{url}\"\naudience = \"{AUDIENCE}\"\n\n"
        )?;
    }
    match settings.credential {
        Credential::Key => write!(
            text,
            "[google.credential]\nfrom = \"service-account-key\"\nfile = \"{}\"\n\n",
            google.key_file.display()
        )?,
        Credential::Metadata => write!(
            text,
            "[google.credential]\nfrom = \"metadata\"\naddress = \"{}\"\n\n",
            google.metadata
        )?,
    }
    write!(
        text,
        "[upstream]\nca_file = \"{}\"\n\n[upstream.addresses]\n\"*.googleapis.com\" = \"{}\"\n",
        google.ca_file.display(),
        google.address
    )?;
    for host in &settings.hosts {
        writeln!(text, "\"{host}\" = \"{}\"", google.address)?;
    }
    for (host, address) in &settings.addresses {
        writeln!(text, "\"{host}\" = \"{address}\"")?;
    }
    for group in hold_groups(&policies)? {
        write!(
            text,
            "\n[reviewers.{group}]\nusers = [\"root\", \"nobody\"]\n"
        )?;
    }
    if let Some(seconds) = settings.http2_answer_seconds {
        write!(text, "\n[hold]\nhttp2_answer_seconds = {seconds}\n")?;
    }
    if let Some(seconds) = settings.max_seconds {
        write!(text, "\n[session]\nmax_seconds = {seconds}\n")?;
    }
    for connection in &settings.connections {
        write!(text, "\n{connection}")?;
    }
    text += &settings.extra_configuration.replace("ISSUER", issuer.url());
    Ok(text)
}

/// The groups that `@hold("...")` names in the policies.
fn hold_groups(policies: &Path) -> anyhow::Result<Vec<String>> {
    let mut groups = Vec::new();
    for entry in fs::read_dir(policies)?.flatten() {
        if entry.path().extension().is_some_and(|it| it == "cedar") {
            let text = fs::read_to_string(entry.path())?;
            let names = text
                .split("@hold(\"")
                .skip(1)
                .filter_map(|it| it.split('"').next());
            groups.extend(names.map(str::to_owned));
        }
    }
    groups.sort();
    groups.dedup();
    Ok(groups)
}
