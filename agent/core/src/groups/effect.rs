//! Whether a method reads, writes or deletes.

use super::{Group, Method, Rule, one_of, rule};

/// First words of methods that read when they are sent with GET. Not every GET does: `billingAccounts.move`,
/// `datasetVersions.restore`, `startOAuthFlow` are GETs.
const GET_READS: &str = "access aggregate aggregated analyze calculate check compute count describe diff download \
    enumerate export fetch find get has instances is list lookup query read render retrieve search show summarize test \
    validate view vread wait";

/// First words of methods that read with any verb.
const POST_READS: &str = "list lookup search";

/// Whole names of methods that read with any verb.
const POST_READ_NAMES: &str = "batchGet countTokens computeTokens getAncestry getEffectiveOrgPolicy getHealth \
    getIamPolicy getOrgPolicy testIamPermissions wait waitExecution";

/// Methods that read with any verb, one by one. Not here because they may write or cost: `bigquery.jobs.query`,
/// `executeSql`, `cloudasset.queryAssets` (can write a table), `reasoningEngines.query` (runs an agent),
/// `threatintelligence.projects.alerts.read` (marks as read), `predict`.
#[rustfmt::skip]
const OTHER_READS: &[Rule] = &[
    rule("bigtableadmin", "tables", "checkConsistency"),
    rule("cloudkms", "cryptoKeys", "decrypt encrypt"),
    rule("cloudkms", "cryptoKeyVersions", "asymmetricDecrypt decapsulate macVerify rawDecrypt rawEncrypt"),
    rule("cloudkms", "locations", "generateRandomBytes"),
    rule("composer", "environments", "pollAirflowCommand"),
    rule("compute", "routers", "preview"),
    rule("compute", "regionCommitments", "calculateCancellationFee"),
    rule("compute", "urlMaps", "validate"),
    rule("compute", "regionUrlMaps", "validate"),
    rule("contentwarehouse", "documents", "get"),
    rule("databasecenter", "*", "aggregateIssueStats aggregateQueryStats queryDatabaseResourceGroups queryIssues"),
    rule("datastore", "projects", "runAggregationQuery runQuery"),
    rule("datastream", "streams", "fetchErrors"),
    rule("firestore", "documents", "listen partitionQuery runAggregationQuery runQuery"),
    rule("gkeonprem", "*", "queryVersionConfig"),
    rule("iam", "iamPolicies", "lintPolicy queryAuditableServices"),
    rule("iam", "permissions", "queryTestablePermissions"),
    rule("iam", "roles", "queryGrantableRoles"),
    rule("logging", "entries", "tail"),
    rule("monitoring", "*", "labels query query_exemplars query_range series"),
    rule("oauth2", "*", "tokeninfo"),
    rule("policytroubleshooter", "*", "troubleshoot"),
    rule("privateca", "caPools", "fetchCaCerts"),
    rule("pubsub", "schemas", "validate validateMessage"),
    rule("servicedirectory", "services", "resolve"),
    rule("sheets", "*", "getByDataFilter batchGetByDataFilter"),
    rule("spanner", "sessions", "partitionQuery partitionRead read streamingRead"),
    rule("sql", "connect", "resolve"),
    rule("vault", "matters", "count"),
];

/// Reads by the look of it that are none: they dispatch work or send messages.
const NOT_READS: &[Rule] = &[rule("beyondcorp", "subscriptions", "cancel restart")];

/// First words of methods that delete with any verb, on their own or after `batch` and `bulk`.
const DELETES: &str = "clear delete deprovision destroy drop erase expunge obliterate purge remove terminate \
    trash truncate undeploy wipe";

/// Methods that destroy what is there, though their name does not say so.
#[rustfmt::skip]
const OTHER_DELETES: &[Rule] = &[
    rule("alloydb", "clusters", "restore"),
    rule("baremetalsolution", "instances", "reimage"),
    rule("compute", "instanceGroupManagers", "recreateInstances deleteInstances"),
    rule("compute", "regionInstanceGroupManagers", "recreateInstances"),
    rule("pubsub", "subscriptions", "seek"),
    rule("sql", "instances", "demoteMaster restoreBackup"),
    rule("storagebatchoperations", "jobs", "create"),
    rule("tpu", "nodes", "reimage"),
    rule("vmwareengine", "*", "privateCloudDeletionNow"),
];

/// The one of read, write and delete that describes the method best; write when in doubt.
pub(super) fn of(method: Method<'_>, verb: &str) -> Group {
    if verb.eq_ignore_ascii_case("DELETE") || deletes(method) {
        Group::Delete
    } else if reads(method, verb) {
        Group::Read
    } else {
        Group::Write
    }
}

fn deletes(method: Method<'_>) -> bool {
    let mut words = method.words();
    let first = words.next().unwrap_or_default();
    let verb = match words.next() {
        Some(second) if one_of("batch bulk privateCloud", first) => second,
        _ => first,
    };
    one_of(DELETES, verb) || OTHER_DELETES.iter().any(|rule| rule.covers(method))
}

fn reads(method: Method<'_>, verb: &str) -> bool {
    let first = method.first_word();
    let by_get = ["GET", "HEAD"]
        .iter()
        .any(|get| verb.eq_ignore_ascii_case(get));
    let by_post = verb.eq_ignore_ascii_case("POST");
    let by_name = by_get
        && (one_of(GET_READS, first)
            || one_of("batchGet batchGetAssetsHistory batchRead", method.name));
    let anyway = one_of(POST_READS, first)
        || one_of(POST_READ_NAMES, method.name)
        || OTHER_READS.iter().any(|rule| rule.covers(method));
    (by_name || ((by_get || by_post) && anyway))
        && !NOT_READS.iter().any(|rule| rule.covers(method))
}
