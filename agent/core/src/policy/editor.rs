//! The schema for editors, such as Cedar's extension for Visual Studio Code: they complete and check what it names.

use std::collections::BTreeSet;

use cedar_policy::PolicySet;

use super::{
    Source,
    schema::{Named, Scope},
    vocabulary::{self, Name},
};
use crate::{catalog::Catalog, groups::classify};

/// How much of Google an editor is told about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The methods and services that the policies name.
    Named,
    /// And every method of these services.
    Services(BTreeSet<String>),
    /// Every method there is: some 28,000, which editors take a while over.
    Everything,
}

/// The Cedar schema for these policies. Files that do not parse are passed over: somebody is writing them.
///
/// # Errors
/// With the services that do not exist.
pub fn schema(
    sources: &[Source],
    extent: &Extent,
    catalog: &Catalog,
) -> Result<String, BTreeSet<String>> {
    let mut named = Named::default();
    for source in sources {
        let Ok(policies) = source.text.parse::<PolicySet>() else {
            continue;
        };
        for literal in policies.policies().flat_map(|it| it.entity_literals()) {
            if literal.type_name().to_string() == "Action" {
                name(literal.id().unescaped(), catalog, &mut named);
            }
        }
    }
    if let Extent::Services(services) = extent {
        let unknown = |service: &&String| {
            service.as_str() != vocabulary::POSTGRES && !catalog.has_service(service)
        };
        let unknown: BTreeSet<_> = services.iter().filter(unknown).cloned().collect();
        if !unknown.is_empty() {
            return Err(unknown);
        }
    }
    for method in catalog.methods() {
        let service = method.id.split('.').next().unwrap_or_default();
        let wanted = match extent {
            Extent::Named => false,
            Extent::Services(services) => services.contains(service),
            Extent::Everything => true,
        };
        if wanted {
            named.services.insert(service.to_owned());
            let groups = classify(method.id, method.verb);
            named.methods.insert(method.id.to_owned(), groups);
        }
    }
    let statements = match extent {
        Extent::Named => false,
        Extent::Services(services) => services.contains(vocabulary::POSTGRES),
        Extent::Everything => true,
    };
    if statements {
        named.services.insert(vocabulary::POSTGRES.to_owned());
        let all = crate::sql::ACTIONS.iter();
        named
            .methods
            .extend(all.map(|(id, groups)| ((*id).to_owned(), *groups)));
    }
    Ok(format!(
        "// What Holdpoint's policies may name; written by `holdpoint policy schema`. Actions called \"any other ...\" stand\n\
         // for the methods that are not listed.\n{}",
        named.schema(&Scope::Everything)
    ))
}

fn name(name: &str, catalog: &Catalog, named: &mut Named) {
    match vocabulary::look_up(name, catalog) {
        Ok(Name::Service(service)) => drop(named.services.insert(service.to_owned())),
        Ok(Name::Method(groups)) => drop(named.methods.insert(name.to_owned(), groups)),
        // Misspelt ones are for `holdpoint policy check` to name.
        Ok(Name::Fixed) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use cedar_policy::{Schema, ValidationMode, Validator};

    use super::*;

    fn source(text: &str) -> [Source; 1] {
        [Source {
            file: "x.cedar".into(),
            text: text.into(),
        }]
    }

    #[test]
    fn policies_are_valid_under_their_schema_and_slips_are_not() {
        let policies = r#"permit(principal, action in [Action::"sql.*", Action::"compute.instances.get"], resource)
            when { context.now > datetime("2026-01-01") && context.size.vcpus < 8 };"#;
        let schema = schema(&source(policies), &Extent::Named, Catalog::built_in());
        let schema: Schema = schema.expect("it is made").parse().expect("it is one");
        let validator = Validator::new(schema);
        let valid = |text: &str| {
            let policies: PolicySet = text.parse().expect("policies");
            let result = validator.validate(&policies, ValidationMode::Strict);
            result.validation_passed_without_warnings()
        };
        assert!(valid(policies));
        assert!(!valid(&policies.replace("vcpus", "cpus")));
        assert!(!valid(&policies.replace("instances.get", "instances.gett")));
    }

    #[test]
    fn whole_services_can_be_had_and_only_real_ones() {
        let some = |services: &[&str]| {
            let services = services.iter().map(|it| (*it).to_owned()).collect();
            schema(
                &source("permit("),
                &Extent::Services(services),
                Catalog::built_in(),
            )
        };
        let text = some(&["sqladmin", "sql"]);
        assert_eq!(text, Err(["sqladmin".to_owned()].into()));
        let text = some(&["sql"]).expect("it is there");
        assert!(text.contains("action \"sql.instances.delete\""));
        assert!(!text.contains("action \"compute.instances.delete\""));
    }
}
