use proptest::prelude::*;

use super::{
    Group::{self, Delete, Iam, Read, RunsCode, Secret, Write},
    Groups, classify,
};

#[rustfmt::skip]
const TABLE: &[(&str, &str, &[Group])] = &[
    // Reads, by GET and otherwise.
    ("compute.instances.list", "GET", &[Read]),
    ("compute.instances.aggregatedList", "GET", &[Read]),
    ("compute.zoneOperations.wait", "POST", &[Read]),
    ("compute.backendServices.getHealth", "POST", &[Read]),
    ("compute.instanceGroups.listInstances", "POST", &[Read]),
    ("storage.objects.get", "GET", &[Read]),
    ("storage.buckets.testIamPermissions", "GET", &[Read]),
    ("cloudresourcemanager.projects.getIamPolicy", "POST", &[Read]),
    ("cloudresourcemanager.projects.testIamPermissions", "POST", &[Read]),
    ("logging.entries.list", "POST", &[Read]),
    ("datastore.projects.runQuery", "POST", &[Read]),
    ("firestore.projects.databases.documents.batchGet", "POST", &[Read]),
    ("monitoring.projects.location.prometheus.api.v1.query", "POST", &[Read]),
    ("sql.Backups.ListBackups", "GET", &[Read]),
    ("sql.connect.get", "GET", &[Read]),
    ("cloudkms.projects.locations.keyRings.cryptoKeys.encrypt", "POST", &[Read]),
    // Reads by the look of it.
    ("bigquery.jobs.query", "POST", &[Write]),
    ("bigquery.jobs.insert", "POST", &[Write]),
    ("sql.instances.executeSql", "POST", &[Write]),
    ("spanner.projects.instances.databases.sessions.executeSql", "POST", &[Write]),
    ("cloudasset.queryAssets", "POST", &[Write]),
    ("cloudasset.exportAssets", "POST", &[Write]),
    ("threatintelligence.projects.alerts.read", "POST", &[Write]),
    ("cloudbilling.organizations.billingAccounts.move", "GET", &[Write]),
    ("aiplatform.projects.locations.datasets.datasetVersions.restore", "GET", &[Write]),
    ("datalabeling.projects.operations.cancel", "GET", &[Write]),
    ("developerconnect.projects.locations.accountConnectors.users.startOAuthFlow", "GET", &[Write]),
    ("connectors.projects.locations.connections.listenEvent", "POST", &[Write]),
    ("firestore.projects.databases.documents.beginTransaction", "POST", &[Write]),
    // Writes.
    ("storage.objects.insert", "POST", &[Write]),
    ("storage.buckets.patch", "PATCH", &[Write]),
    ("compute.firewalls.insert", "POST", &[Write]),
    ("compute.instances.stop", "POST", &[Write]),
    ("sql.instances.insert", "POST", &[Write]),
    ("secretmanager.projects.secrets.addVersion", "POST", &[Write]),
    ("cloudresourcemanager.projects.undelete", "POST", &[Write]),
    ("gmail.users.messages.untrash", "POST", &[Write]),
    // Deletes.
    ("sql.instances.delete", "DELETE", &[Delete]),
    ("compute.instances.delete", "DELETE", &[Delete]),
    ("compute.globalVmExtensionPolicies.delete", "POST", &[Delete]),
    ("cloudresourcemanager.projects.delete", "DELETE", &[Delete]),
    ("secretmanager.projects.secrets.versions.destroy", "POST", &[Delete]),
    ("cloudtasks.projects.locations.queues.purge", "POST", &[Delete]),
    ("pubsub.projects.subscriptions.seek", "POST", &[Delete]),
    ("sql.instances.restoreBackup", "POST", &[Delete]),
    ("sql.Backups.DeleteBackup", "DELETE", &[Delete]),
    ("storage.folders.deleteRecursive", "POST", &[Delete]),
    ("aiplatform.projects.locations.endpoints.undeployModel", "POST", &[Delete]),
    ("artifactregistry.projects.locations.repositories.packages.versions.batchDelete", "POST", &[Delete]),
    ("firestore.projects.databases.bulkDeleteDocuments", "POST", &[Delete]),
    ("admin.customers.chrome.printers.batchDeletePrinters", "POST", &[Delete, Iam]),
    ("cloudkms.projects.locations.keyRings.cryptoKeys.cryptoKeyVersions.destroy", "POST", &[Delete]),
    // Who may do what.
    ("cloudresourcemanager.projects.setIamPolicy", "POST", &[Write, Iam]),
    ("storage.buckets.setIamPolicy", "PUT", &[Write, Iam]),
    ("storage.bucketAccessControls.insert", "POST", &[Write, Iam]),
    ("storage.objectAccessControls.list", "GET", &[Read]),
    ("storage.objectAccessControls.delete", "DELETE", &[Delete, Iam]),
    ("iam.projects.serviceAccounts.create", "POST", &[Write, Iam]),
    ("iam.projects.serviceAccounts.disable", "POST", &[Write, Iam]),
    ("iam.projects.serviceAccounts.list", "GET", &[Read]),
    ("iam.roles.queryGrantableRoles", "POST", &[Read]),
    ("iam.projects.locations.workloadIdentityPools.create", "POST", &[Write, Iam]),
    ("orgpolicy.projects.policies.patch", "PATCH", &[Write, Iam]),
    ("oslogin.users.importSshPublicKey", "POST", &[Write, Iam]),
    ("compute.projects.setCommonInstanceMetadata", "POST", &[Write, Iam, RunsCode]),
    ("compute.instances.setMetadata", "POST", &[Write, Iam, RunsCode]),
    ("sql.users.delete", "DELETE", &[Delete, Iam]),
    ("container.projects.zones.clusters.legacyAbac", "POST", &[Write, Iam]),
    // Secrets and credentials.
    ("secretmanager.projects.secrets.versions.access", "GET", &[Read, Secret]),
    ("secretmanager.projects.secrets.versions.get", "GET", &[Read]),
    ("iamcredentials.projects.serviceAccounts.generateAccessToken", "POST", &[Write, Secret]),
    ("iamcredentials.projects.serviceAccounts.signJwt", "POST", &[Write, Secret]),
    ("iam.projects.serviceAccounts.keys.create", "POST", &[Write, Iam, Secret]),
    ("cloudkms.projects.locations.keyRings.cryptoKeys.decrypt", "POST", &[Read, Secret]),
    ("sql.connect.generateEphemeral", "POST", &[Write, Secret]),
    ("sql.users.insert", "POST", &[Write, Iam, Secret]),
    ("apikeys.projects.locations.keys.getKeyString", "GET", &[Read, Secret]),
    ("storage.projects.hmacKeys.create", "POST", &[Write, Iam, Secret]),
    ("cloudshell.users.environments.generateAccessToken", "GET", &[Write, Secret]),
    ("developerconnect.projects.locations.connections.gitRepositoryLinks.fetchReadWriteToken", "POST", &[Write, Secret]),
    ("vmwareengine.projects.locations.privateClouds.showNsxCredentials", "GET", &[Read, Secret]),
    ("sts.token", "POST", &[Write, Secret]),
    ("aiplatform.endpoints.countTokens", "POST", &[Read]),
    ("drive.changes.getStartPageToken", "GET", &[Read]),
    // Code that runs elsewhere.
    ("cloudbuild.projects.builds.create", "POST", &[Write, RunsCode]),
    ("cloudbuild.projects.locations.triggers.run", "POST", &[Write, RunsCode]),
    ("cloudbuild.projects.builds.cancel", "POST", &[Write]),
    ("run.namespaces.services.replaceService", "PUT", &[Write, RunsCode]),
    ("run.projects.locations.jobs.run", "POST", &[Write, RunsCode]),
    ("run.projects.locations.jobs.delete", "DELETE", &[Delete]),
    ("cloudfunctions.projects.locations.functions.create", "POST", &[Write, RunsCode]),
    ("compute.instances.insert", "POST", &[Write, RunsCode]),
    ("compute.regionInstances.bulkInsert", "POST", &[Write, RunsCode]),
    ("compute.instanceTemplates.insert", "POST", &[Write, RunsCode]),
    ("dataproc.projects.regions.jobs.submit", "POST", &[Write, RunsCode]),
    ("workflowexecutions.projects.locations.workflows.executions.create", "POST", &[Write, RunsCode]),
    ("batch.projects.locations.jobs.create", "POST", &[Write, RunsCode]),
    ("aiplatform.projects.locations.customJobs.create", "POST", &[Write, RunsCode]),
    ("aiplatform.projects.locations.reasoningEngines.query", "POST", &[Write, RunsCode]),
    ("config.projects.locations.deployments.create", "POST", &[Write, RunsCode]),
];

#[test]
fn methods_are_in_the_groups_of_the_table() {
    for (id, verb, groups) in TABLE {
        assert_eq!(classify(id, verb), Groups::of(groups), "{id} {verb}");
    }
}

proptest! {
    #[test]
    fn every_method_has_exactly_one_effect(id in r"[a-z]{1,8}(\.[a-zA-Z_-]{1,14}){0,5}", verb in "[A-Z]{0,7}") {
        let groups = classify(&id, &verb);
        let effects = [Read, Write, Delete].iter().filter(|effect| groups.contains(**effect)).count();
        prop_assert_eq!(effects, 1);
        prop_assert!(!(groups.contains(Read) && (groups.contains(Iam) || groups.contains(RunsCode))));
    }

    #[test]
    fn only_get_head_and_post_can_read(index in 0..TABLE.len(), verb in "PUT|PATCH|DELETE|OPTIONS|[A-Z]{0,2}") {
        prop_assert!(!classify(TABLE[index].0, &verb).contains(Read));
    }

    #[test]
    fn case_does_not_matter(index in 0..TABLE.len()) {
        let (id, verb, _) = TABLE[index];
        let (service, rest) = id.split_once('.').expect("ids have a dot");
        let (head, last) = rest.rsplit_once('.').map_or(("", rest), |(head, last)| (head, last));
        let mut shouted = last.to_owned();
        shouted[..1].make_ascii_uppercase();
        let other = [service, head, &shouted].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(".");
        prop_assert_eq!(classify(&other, verb), classify(id, verb));
    }

    #[test]
    fn classify_never_panics(id in ".{0,60}", verb in ".{0,10}") {
        let _ = classify(&id, &verb);
    }
}
