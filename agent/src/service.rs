//! Services: programs that need the network before any job says who it acts for. A CI runner has to poll for its jobs.
//!
//! A service is in the configuration, opens a session without a token of its own, and reaches nothing but its own hosts.
//! The jobs that it runs act for themselves: see [`crate::binding`].

use std::sync::Arc;

use anyhow::ensure;
use holdpoint_core::{
    identity::Principal,
    operation::{Operation, Trait},
};
use serde::{Deserialize, Serialize};

use crate::{
    config::{self, Identity},
    credential::instance,
    daemon::House,
    launch::{Network, RunRequest},
    session::SessionId,
};

/// The issuer of the principals that the configuration itself names.
const OWN_ISSUER: &str = "holdpoint:service";

/// How a session came about, and what that opens and closes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// By a token.
    #[default]
    Token,
    /// It is a service's own: nothing but the service's hosts is open to it.
    Service(Arc<Service>),
    /// A job in the sandbox of a service, by the job's token.
    Job {
        /// The service.
        service: Arc<Service>,
        /// The service's own session.
        within: SessionId,
    },
}

impl Standing {
    /// The service whose sandbox it is.
    #[must_use]
    pub fn service(&self) -> Option<&Service> {
        match self {
            Self::Token => None,
            Self::Service(service) | Self::Job { service, .. } => Some(service),
        }
    }

    /// The service's session, for a job in its sandbox.
    #[must_use]
    pub fn within(&self) -> Option<&SessionId> {
        match self {
            Self::Job { within, .. } => Some(within),
            Self::Token | Self::Service(_) => None,
        }
    }

    /// The network its processes are in.
    #[must_use]
    pub fn network(&self) -> Network {
        match self {
            Self::Service(service) => service.network,
            Self::Token | Self::Job { .. } => Network::Own,
        }
    }

    /// An operation on a host, told apart for policy when it is one of the service's own.
    #[must_use]
    pub fn on_host(&self, action: &'static str, host: &str, port: Option<u16>) -> Operation {
        let mut operation = Operation::on_host(action, host, port);
        if self.service().is_some_and(|service| service.owns(host)) {
            operation.traits.insert(Trait::OwnHost);
        }
        operation
    }

    /// Why this may not happen, whatever policy says.
    #[must_use]
    pub fn objection(&self, operation: &Operation) -> Option<String> {
        match self {
            Self::Service(service) if !service.owns(&operation.host) => Some(format!(
                "is not open to the service {} itself, only its own hosts are: it has to be asked for by a job, and none is bound \
                 (holdpoint session bind, with the job's ID token)",
                service.name
            )),
            _ => None,
        }
    }
}

/// One service, as configured and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The issuer whose tokens bind its jobs.
    pub job_issuer: Option<String>,
    #[serde(default)]
    network: Network,
    user: String,
    unit: Option<Pattern>,
    hosts: Vec<Pattern>,
    identity: Identity,
}

impl Service {
    fn new(settings: &config::Service) -> anyhow::Result<Self> {
        let name = &settings.name;
        ensure!(is_name(name), "its name has to be of a-z, 0-9, - and _");
        ensure!(
            settings.user != "root" && !settings.user.is_empty(),
            "its user cannot be root: root is not taken into a session"
        );
        let hosts = settings.hosts.iter().map(|host| {
            let rest = host.strip_prefix("*.").unwrap_or(host);
            ensure!(
                rest.contains('.') && rest.chars().all(is_of_a_host),
                "{host:?} is no host: write api.example.com, or *.example.com for all names below it, in lower case"
            );
            Pattern::parse(host)
        });
        Ok(Self {
            name: name.clone(),
            job_issuer: settings.job_issuer.clone(),
            network: settings.network,
            user: settings.user.clone(),
            unit: settings.unit.as_deref().map(Pattern::parse).transpose()?,
            hosts: hosts.collect::<anyhow::Result<_>>()?,
            identity: settings.identity.clone(),
        })
    }

    fn owns(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| pattern.matches(host))
    }

    /// Whether this user, in this unit, is the service.
    fn admits(&self, user: &str, unit: Option<&str>) -> Result<(), String> {
        let Self { name, .. } = self;
        if user != self.user {
            return Err(format!(
                "the service {name} is opened by the user {}, and this is {user}",
                self.user
            ));
        }
        match (&self.unit, unit) {
            (None, _) => Ok(()),
            (Some(wanted), Some(unit)) if wanted.matches(unit) => Ok(()),
            (Some(wanted), unit) => Err(format!(
                "the service {name} is opened in the unit {wanted}, and this is {}",
                unit.unwrap_or("in none")
            )),
        }
    }
}

/// All services of the configuration.
#[derive(Debug, Default)]
pub struct Services(Vec<Arc<Service>>);

impl Services {
    /// Checks them.
    ///
    /// # Errors
    /// When one says what cannot be, there are two of one name, or one names an issuer that is not configured.
    pub fn new(config: &config::Config) -> anyhow::Result<Self> {
        let mut services = Vec::<Arc<Service>>::new();
        for settings in &config.services {
            let service = Service::new(settings)
                .map_err(|error| error.context(format!("the service {:?}", settings.name)))?;
            let name = &service.name;
            ensure!(
                services.iter().all(|other| other.name != *name),
                "the service {name:?} is there twice"
            );
            let instance = match &service.identity {
                Identity::Gce { issuer, .. } => Some(issuer),
                Identity::Configured => None,
            };
            for issuer in service.job_issuer.iter().chain(instance) {
                ensure!(
                    config.issuers.iter().any(|known| known.url == *issuer),
                    "the service {name:?} names the issuer {issuer}, and there is no [[issuer]] with this url, to the letter"
                );
            }
            ensure!(
                service
                    .job_issuer
                    .as_ref()
                    .is_none_or(|it| Some(it) != instance),
                "the service {name:?}: what says who the runner is must not bind jobs as well"
            );
            services.push(Arc::new(service));
        }
        Ok(Self(services))
    }

    /// What a session of an earlier daemon is under this configuration; `None` where there is no such service any more.
    #[must_use]
    pub fn renew(&self, standing: &Standing) -> Option<Standing> {
        match standing {
            Standing::Token => Some(Standing::Token),
            Standing::Service(before) => {
                let service = self.find(&before.name)?;
                (service.user == before.user).then(|| Standing::Service(service.clone()))
            }
            // A job is no session that anybody adopts.
            Standing::Job { .. } => None,
        }
    }

    /// The service of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Service>> {
        self.0.iter().find(|service| service.name == name)
    }
}

/// Whom a session acts for that the service `name` asks for.
///
/// # Errors
/// Why it may not, for the caller: there is no such service, it is not this caller, or who it is cannot be told.
pub async fn identify(
    house: &House,
    request: &RunRequest,
    name: &str,
) -> Result<(Principal, Standing), String> {
    let service = house.services.find(name).ok_or_else(|| {
        format!("there is no service {name:?}: it has to be a [[service]] of holdpoint.toml")
    })?;
    let cgroups = |pid: u32| {
        let read = std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
        read.map_err(|error| format!("the caller's unit cannot be told: {error}"))
    };
    let (caller, manager) = (cgroups(request.pid)?, cgroups(1)?);
    service.admits(&request.user.name, system_unit(&caller, &manager))?;
    let principal = match &service.identity {
        Identity::Configured => Principal {
            issuer: OWN_ISSUER.to_owned(),
            subject: service.name.clone(),
            groups: [].into(),
            claims: [].into(),
        },
        Identity::Gce { issuer, address } => gce(house, issuer, *address).await?,
    };
    Ok((principal, Standing::Service(service.clone())))
}

async fn gce(
    house: &House,
    issuer: &str,
    address: std::net::SocketAddr,
) -> Result<Principal, String> {
    let unknown = |why: String| format!("which instance this is cannot be told: {why}");
    let audience = house.verifier.audience(issuer);
    let audience = audience.ok_or_else(|| unknown(format!("{issuer} is not configured")))?;
    let token = instance::token(&house.upstream, address, audience)
        .await
        .map_err(unknown)?;
    let principal = house.verifier.verify(&token).await;
    let principal = principal.map_err(|error| unknown(error.to_string()))?;
    if principal.issuer != issuer {
        return Err(unknown(format!(
            "the metadata server's token is by {}",
            principal.issuer
        )));
    }
    Ok(principal)
}

/// The systemd unit of the system's manager in which a process is, by its `/proc/PID/cgroup` and the manager's own: the first part of
/// the path that is no slice, as systemd itself reads it (`cg_path_get_unit`, below `cg_get_root_path`, for a systemd in a container).
/// So what a user calls a unit below `user@1000.service` is none. Where cgroup v1 is mounted too, the path is in systemd's own hierarchy.
fn system_unit<'a>(process: &'a str, manager: &str) -> Option<&'a str> {
    let unit_in = |hierarchy: &str| {
        let root = cgroup(manager, hierarchy).unwrap_or("/");
        let root = root.strip_suffix("/init.scope").unwrap_or(root);
        let path = cgroup(process, hierarchy)?.strip_prefix(root.trim_end_matches('/'))?;
        let unit = path
            .strip_prefix('/')?
            .split('/')
            .find(|part| !part.ends_with(".slice"))?;
        (unit.ends_with(".service") || unit.ends_with(".scope")).then_some(unit)
    };
    unit_in("name=systemd").or_else(|| unit_in(""))
}

/// The path in a hierarchy, named as in cgroups(7).
fn cgroup<'a>(proc_cgroup: &'a str, hierarchy: &str) -> Option<&'a str> {
    proc_cgroup.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (name, path) = rest.split_once(':')?;
        (name == hierarchy).then_some(path)
    })
}

/// A name with at most one `*` in it, which stands for anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Pattern(String);

impl Pattern {
    fn parse(text: &str) -> anyhow::Result<Self> {
        ensure!(
            !text.is_empty() && text.matches('*').count() <= 1,
            "{text:?}: a name with one * at most is wanted"
        );
        Ok(Self(text.to_owned()))
    }

    fn matches(&self, name: &str) -> bool {
        match self.0.split_once('*') {
            None => name == self.0,
            Some((start, end)) => name
                .strip_prefix(start)
                .and_then(|rest| rest.strip_suffix(end))
                .is_some_and(|middle| !middle.is_empty()),
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_name(name: &str) -> bool {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    !name.is_empty() && name.len() <= 64 && name.chars().all(valid)
}

fn is_of_a_host(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use holdpoint_core::operation::Action;
    use proptest::prelude::*;

    use super::*;

    fn settings() -> config::Service {
        config::Service {
            name: "runner".into(),
            user: "ci".into(),
            unit: Some("actions.runner.*".into()),
            hosts: vec!["ci.example.com".into(), "*.logs.example.com".into()],
            job_issuer: None,
            network: Network::Own,
            identity: Identity::Configured,
        }
    }

    fn service() -> Arc<Service> {
        Arc::new(Service::new(&settings()).expect("valid"))
    }

    #[test]
    fn a_service_itself_has_its_own_hosts_and_nothing_else() {
        let own = Standing::Service(service());
        let job = Standing::Job {
            service: service(),
            within: SessionId::random(),
        };
        for (host, owned) in [
            ("ci.example.com", true),
            ("a.logs.example.com", true),
            ("a.b.logs.example.com", true),
            ("logs.example.com", false),
            (".logs.example.com", false),
            ("evil-ci.example.com", false),
            ("ci.example.com.evil", false),
            ("sqladmin.googleapis.com", false),
        ] {
            for standing in [&own, &job] {
                let operation = standing.on_host(Action::NET_CONNECT, host, Some(443));
                assert_eq!(operation.traits.contains(&Trait::OwnHost), owned, "{host}");
            }
            let operation = Operation::on_host(Action::NET_CONNECT, host, Some(443));
            assert_eq!(own.objection(&operation).is_none(), owned, "{host}");
            assert_eq!(job.objection(&operation), None, "{host}");
            assert_eq!(Standing::Token.objection(&operation), None, "{host}");
            let operation = Standing::Token.on_host(Action::NET_CONNECT, host, Some(443));
            assert!(operation.traits.is_empty());
        }
    }

    #[test]
    fn user_and_unit_have_to_be_the_services() {
        let service = service();
        let unit = Some("actions.runner.shop.vm-1.service");
        assert_eq!(service.admits("ci", unit), Ok(()));
        assert!(service.admits("other", unit).is_err());
        assert!(service.admits("ci", None).is_err());
        assert!(service.admits("ci", Some("cron.service")).is_err());
        assert!(service.admits("ci", Some("actions.runner.")).is_err());
        let anywhere = config::Service {
            unit: None,
            ..settings()
        };
        let anywhere = Service::new(&anywhere).expect("valid");
        assert_eq!(anywhere.admits("ci", None), Ok(()));
    }

    #[test]
    fn only_the_systems_own_units_count() {
        let unified = |path: &str| format!("0::{path}\n");
        let runner = "actions.runner.a.service";
        for (cgroups, unit) in [
            (unified(&format!("/system.slice/{runner}")), Some(runner)),
            (
                unified(&format!("/a.slice/a-b.slice/{runner}/deeper")),
                Some(runner),
            ),
            (
                unified(&format!(
                    "/user.slice/user-1000.slice/user@1000.service/app.slice/{runner}"
                )),
                Some("user@1000.service"),
            ),
            (
                format!("4:memory:/x\n1:name=systemd:/system.slice/{runner}\n0::/\n"),
                Some(runner),
            ),
            (unified("/"), None),
            (unified(&format!("/docker/{runner}")), None),
            (String::new(), None),
        ] {
            assert_eq!(system_unit(&cgroups, "0::/init.scope\n"), unit, "{cgroups}");
        }
    }

    #[test]
    fn a_systemd_in_a_container_has_units_below_its_own_cgroup() {
        let manager = "1:name=systemd:/\n0::/machine/one/init.scope\n";
        for (path, unit) in [
            ("/machine/one/a.slice/x.service", Some("x.service")),
            ("/machine/one/x.service", Some("x.service")),
            ("/machine/oneself/x.service", None),
            ("/a.slice/x.service", None),
            ("/machine/one", None),
        ] {
            let process = format!("1:name=systemd:/\n0::{path}\n");
            assert_eq!(system_unit(&process, manager), unit, "{path}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let valid = settings;
        for wrong in [
            config::Service {
                name: "Runner 1".into(),
                ..valid()
            },
            config::Service {
                user: "root".into(),
                ..valid()
            },
            config::Service {
                unit: Some("a*b*".into()),
                ..valid()
            },
            config::Service {
                hosts: vec!["*".into()],
                ..valid()
            },
            config::Service {
                hosts: vec!["*.com*".into()],
                ..valid()
            },
            config::Service {
                hosts: vec!["https://ci.example.com".into()],
                ..valid()
            },
            config::Service {
                hosts: vec!["CI.example.com".into()],
                ..valid()
            },
        ] {
            assert!(Service::new(&wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_cgroup_file_is_survived(text in "[a-z0-9:/.=@\\n]{0,200}", manager in "[a-z0-9:/.=@\\n]{0,200}") {
            if let Some(unit) = system_unit(&text, &manager) {
                prop_assert!(!unit.contains('/') && unit.contains('.'));
            }
        }
    }
}
