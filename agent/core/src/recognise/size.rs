//! How much a request asks for: what costs money.
//!
//! Policies cannot do sums or take names apart, and Google writes the same thing in many ways, so this is worked out here.
//! What cannot be told counts as more than any limit.

use super::query::Query;
use crate::{
    fields::Json,
    operation::{Size, TOO_MANY},
};

/// Where a machine's type is named: Compute Engine, GKE, Vertex AI, Dataproc, Cloud SQL.
const MACHINE: [&str; 8] = [
    "machinetype",
    "machinetypeuri",
    "machinetypes",
    "mastermachinetype",
    "tier",
    "workermachinetype",
    "parameterservertype",
    "mastertype",
];
const PROCESSORS: &str = "cpucount";
const ACCELERATORS: [&str; 2] = ["acceleratorcount", "gpucount"];
const ACCELERATOR: [&str; 3] = [
    "acceleratortype",
    "acceleratortypeuri",
    "acceleratortopology",
];
/// How many machines, where a field says so by its name.
const INSTANCES: [&str; 14] = [
    "count",
    "desirednodecount",
    "initialnodecount",
    "maxinstancecount",
    "maxnodecount",
    "maxnumreplicas",
    "maxreplicacount",
    "minreplicacount",
    "nodecount",
    "numinstances",
    "numnodes",
    "numworkers",
    "replicacount",
    "targetsize",
];
/// Of these services only: elsewhere a `tier` is a storage class and a `count` anything.
const SERVICES: [&str; 14] = [
    "aiplatform",
    "alloydb",
    "batch",
    "bigtableadmin",
    "compute",
    "container",
    "dataflow",
    "dataproc",
    "ml",
    "notebooks",
    "spanner",
    "sql",
    "tpu",
    "workstations",
];

/// The size of a request for the method `id`.
pub(super) fn of(id: &str, query: &Query, json: Option<&Json>) -> Size {
    let service = id.split('.').next().unwrap_or_default();
    let mut size = Size::default();
    if !SERVICES.contains(&service) {
        return size;
    }
    if let Some(json) = json {
        json.each_text(&mut |path, text| {
            let name = path.last().copied().unwrap_or_default();
            size = size.with(of_field(service, name, text));
        });
    }
    // `resize?size=5`
    for (name, value) in &query.0 {
        let size_is_asked = name == "size" && id.ends_with("resize");
        let name = if size_is_asked { "targetSize" } else { name };
        size = size.with(of_field(service, name, value));
    }
    size
}

fn of_field(service: &str, name: &str, text: &str) -> Size {
    let name = name.replace(['_', '-'], "").to_ascii_lowercase();
    let name = name.as_str();
    let mut size = Size::default();
    if MACHINE.contains(&name) {
        size = machine(text);
    } else if name == PROCESSORS {
        size.vcpus = number(text);
    } else if ACCELERATORS.contains(&name) {
        size.accelerators = number(text);
    } else if ACCELERATOR.contains(&name) {
        size.accelerators = accelerators(service, text);
    } else if INSTANCES.contains(&name) {
        size.instances = number(text);
    }
    size
}

fn number(text: &str) -> u32 {
    text.trim().parse().unwrap_or(TOO_MANY).min(TOO_MANY)
}

/// `v5litepod-16` has 16 chips; one of any other kind unless a count says more.
fn accelerators(service: &str, text: &str) -> u32 {
    match text.rsplit_once('-') {
        Some((_, chips)) if service == "tpu" => number(chips),
        _ if text.is_empty() || text.ends_with("UNSPECIFIED") => 0,
        _ => 1,
    }
}

/// What `zones/Z/machineTypes/n2-standard-8`, `custom-8-16384`, `a2-highgpu-4g` or `db-custom-4-16384` has
/// (<https://cloud.google.com/compute/docs/machine-resource>).
fn machine(text: &str) -> Size {
    let name = text.rsplit('/').next().unwrap_or_default();
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("db-").unwrap_or(&name);
    let parts: Vec<&str> = name.split('-').collect();
    let accelerators = accelerators_of(&parts);
    let vcpus = match parts.as_slice() {
        [""] => 0,
        ["f1" | "g1", ..] => 1,
        ["e2", "micro" | "small" | "medium", ..] => 2,
        ["custom", vcpus, ..] | [_, "custom", vcpus, ..] => number(vcpus),
        // `c3-standard-44-lssd`
        [_, _, vcpus, ..] if vcpus.parse::<u32>().is_ok() => number(vcpus),
        // `a2-highgpu-4g` counts accelerators: twelve processors to each is the least there is.
        _ if accelerators > 0 => accelerators.saturating_mul(12),
        // `perf-optimized-n-16`
        [.., vcpus] => number(vcpus),
        [] => TOO_MANY,
    };
    Size {
        vcpus: vcpus.min(TOO_MANY),
        accelerators: accelerators.min(TOO_MANY),
        instances: 0,
    }
}

/// Machines that have accelerators whether the request says so or not: the A, G and CT families.
fn accelerators_of(parts: &[&str]) -> u32 {
    let family = parts.first().copied().unwrap_or_default();
    let has_digit = |family: &str| family.chars().next().is_some_and(|it| it.is_ascii_digit());
    let is = |prefix: &str| family.strip_prefix(prefix).is_some_and(has_digit);
    if !(is("a") || is("ct") || (is("g") && family != "g1")) {
        return 0;
    }
    let named = parts.iter().find_map(|part| {
        let count = part.strip_suffix('g').or_else(|| part.strip_suffix('t'))?;
        count.parse().ok()
    });
    named.unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size(id: &str, body: &str) -> (u32, u32, u32) {
        let json = Json::parse(body.as_bytes()).expect("the test's JSON is good");
        let size = of(id, &Query::default(), Some(&json));
        (size.vcpus, size.accelerators, size.instances)
    }

    #[test]
    fn machines_are_told_by_their_names() {
        for (name, vcpus, accelerators) in [
            ("n2-standard-8", 8, 0),
            ("zones/us-central1-a/machineTypes/e2-medium", 2, 0),
            (
                "https://www.googleapis.com/compute/v1/projects/p/zones/z/machineTypes/m1-ultramem-160",
                160,
                0,
            ),
            ("custom-16-65536", 16, 0),
            ("n2d-custom-32-65536-ext", 32, 0),
            ("c3-standard-44-lssd", 44, 0),
            ("f1-micro", 1, 0),
            ("g1-small", 1, 0),
            ("a2-highgpu-4g", 48, 4),
            ("a3-megagpu-8g", 96, 8),
            ("a3-highgpu-8g-nolssd", 96, 8),
            ("g2-standard-24", 24, 1),
            ("ct5lp-hightpu-4t", 48, 4),
            ("db-custom-4-16384", 4, 0),
            ("db-n1-standard-64", 64, 0),
            ("db-perf-optimized-N-16", 16, 0),
            ("quantum", TOO_MANY, 0),
            ("n9-standard-lots", TOO_MANY, 0),
        ] {
            let body = format!(r#"{{"machine_type":"{name}"}}"#);
            let found = size("compute.instances.insert", &body);
            assert_eq!(found, (vcpus, accelerators, 0), "{name}");
        }
    }

    #[test]
    fn counts_are_found_wherever_they_stand() {
        for (id, body, expected) in [
            (
                "compute.instances.insert",
                r#"{"guestAccelerators":[{"acceleratorType":"zones/z/acceleratorTypes/nvidia-tesla-t4","acceleratorCount":4}]}"#,
                (0, 4, 0),
            ),
            (
                "compute.instances.bulkInsert",
                r#"{"count":"200","instanceProperties":{"machineType":"n1-standard-4"}}"#,
                (4, 0, 200),
            ),
            (
                "container.projects.locations.clusters.create",
                r#"{"cluster":{"nodePools":[{"initialNodeCount":3,"config":{"machineType":"e2-standard-16"},"autoscaling":{"maxNodeCount":50}}]}}"#,
                (16, 0, 50),
            ),
            (
                "aiplatform.projects.locations.customJobs.create",
                r#"{"jobSpec":{"workerPoolSpecs":[{"machineSpec":{"machineType":"a2-highgpu-1g","acceleratorType":"NVIDIA_TESLA_A100"},"replicaCount":-3}]}}"#,
                (12, 1, TOO_MANY),
            ),
            (
                "tpu.projects.locations.nodes.create",
                r#"{"acceleratorType":"v5litepod-256"}"#,
                (0, 256, 0),
            ),
            (
                "bigquery.jobs.insert",
                r#"{"count":900,"tier":"x"}"#,
                (0, 0, 0),
            ),
        ] {
            assert_eq!(size(id, body), expected, "{id}");
        }
    }

    #[test]
    fn a_size_in_the_query_counts() {
        let query = Query::parse(b"size=70").expect("a query");
        let resize = of("compute.instanceGroupManagers.resize", &query, None);
        assert_eq!(resize.instances, 70);
        assert_eq!(
            of("compute.disks.resize", &Query::default(), None),
            Size::default()
        );
    }

    proptest! {
        #[test]
        fn any_name_has_a_size(name in ".{0,40}") {
            let size = machine(&name);
            prop_assert!(size.vcpus <= TOO_MANY && size.accelerators <= TOO_MANY);
        }
    }
}
