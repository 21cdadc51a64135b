//! Which methods change access, reveal secrets, or run code elsewhere.

use super::{Method, Rule, one_of, rule};

/// Changes who may do what. Only consulted for methods that change something.
#[rustfmt::skip]
const IAM: &[Rule] = &[
    rule("*", "*", "setIamPolicy removeIamPolicy setOrgPolicy clearOrgPolicy setAcl addPublicKey removePublicKey"),
    // Whole services that are about nothing else.
    rule("accessapproval", "*", "*"),
    rule("accesscontextmanager", "*", "*"),
    rule("admin", "*", "*"),
    rule("agentidentity", "*", "*"),
    rule("cloudidentity", "*", "*"),
    rule("directory", "*", "*"),
    rule("iam", "*", "*"),
    rule("iap", "*", "*"),
    rule("orgpolicy", "*", "*"),
    rule("oslogin", "*", "*"),
    // Access lists, wherever they are.
    rule("*", "accessBindings", "*"),
    rule("*", "adminAccessBindings", "*"),
    rule("*", "aclPolicies", "*"),
    rule("*", "acl", "*"),
    rule("*", "acls", "*"),
    rule("*", "bucketAccessControls", "*"),
    rule("*", "defaultObjectAccessControls", "*"),
    rule("*", "objectAccessControls", "*"),
    rule("*", "hmacKeys", "*"),
    rule("*", "permissions", "*"),
    rule("*", "publicKeys", "*"),
    rule("*", "rbacrolebindings", "*"),
    rule("*", "roleAssignments", "*"),
    rule("*", "rowAccessPolicies", "*"),
    rule("*", "sshKeys", "*"),
    rule("*", "sshPublicKeys", "*"),
    rule("*", "tokenAuthUsers", "*"),
    rule("*", "userCreds", "*"),
    rule("alloydb", "users", "*"),
    rule("apikeys", "keys", "*"),
    rule("bigquerydatapolicy", "dataPolicies", "*"),
    rule("binaryauthorization", "*", "updatePolicy"),
    // What lies in another folder inherits other policies.
    rule("cloudresourcemanager", "*", "move"),
    // Signed-URL keys, SSH keys in metadata, the identity of a machine, shared VPC.
    rule("compute", "*", "addSignedUrlKey deleteSignedUrlKey"),
    rule("compute", "instances", "setMetadata setServiceAccount update"),
    rule("compute", "projects", "disableXpnHost disableXpnResource enableXpnHost enableXpnResource setCommonInstanceMetadata setDefaultServiceAccount"),
    rule("container", "clusters", "legacyAbac setLegacyAbac setMasterAuth"),
    rule("redis", "clusters", "addTokenAuthUser"),
    rule("sql", "users", "*"),
    rule("tpu", "nodes", "patch"),
    rule("vmwareengine", "*", "grant revoke"),
];

/// Reveals or mints a secret or a credential.
#[rustfmt::skip]
const SECRET: &[Rule] = &[
    rule("alloydb", "clusters", "generateClientCertificate"),
    rule("alloydb", "users", "create patch"),
    rule("apigee", "apps", "get list generateKeyPairOrUpdateDeveloperAppStatus"),
    rule("apigee", "keys", "create get"),
    rule("apikeys", "keys", "create getKeyString"),
    rule("baremetalsolution", "*", "loadAuthInfo"),
    rule("cloudkms", "*", "asymmetricDecrypt asymmetricSign decapsulate decrypt exportTrustedKeyWrappedCryptoKeyVersion macSign rawDecrypt"),
    rule("compute", "instances", "getScreenshot getSerialPortOutput"),
    rule("compute", "interconnects", "getMacsecConfig"),
    // A Terraform state holds what Terraform was given.
    rule("config", "*", "exportState"),
    rule("config", "previews", "export"),
    rule("container", "clusters", "setMasterAuth"),
    rule("directory", "verificationCodes", "*"),
    rule("domains", "registrations", "resetAuthorizationCode retrieveAuthorizationCode"),
    rule("firestore", "userCreds", "create"),
    rule("iam", "keys", "create"),
    rule("iam", "credentials", "create get list"),
    rule("iam", "serviceAccounts", "signBlob signJwt"),
    rule("iamcredentials", "*", "generateAccessToken generateIdToken signBlob signJwt"),
    rule("iap", "identityAwareProxyClients", "create get list resetSecret"),
    rule("identitytoolkit", "*", "createSessionCookie downloadAccount"),
    rule("identitytoolkit", "accounts", "batchGet"),
    rule("monitoring", "notificationChannels", "getVerificationCode"),
    rule("oracledatabase", "*", "generateWallet"),
    rule("oslogin", "*", "signSshPublicKey"),
    rule("parametermanager", "versions", "render"),
    rule("privateca", "certificates", "create"),
    rule("redis", "authTokens", "get list"),
    rule("redis", "instances", "getAuthString"),
    rule("secretmanager", "versions", "access"),
    rule("sql", "connect", "generateEphemeral generateEphemeralCert"),
    rule("sql", "sslCerts", "createEphemeral insert"),
    rule("sql", "users", "insert update"),
    rule("storage", "hmacKeys", "create"),
    rule("sts", "*", "token"),
];

/// What a method hands out when its name begins with one of [`HANDS_OUT`].
const CREDENTIALS: &str = "credential credentials password secret token tokens";
const HANDS_OUT: &str =
    "access acquire create exchange fetch generate get mint refresh reset retrieve rotate show";

/// Named like a credential, and none: language-model tokens, positions in a change list, policies.
const NOT_SECRET: &str = "generateConsistencyToken getPasswordPolicy getStartPageToken";

/// Makes code run where Holdpoint does not see it, or changes which code runs there. Only consulted for writes.
#[rustfmt::skip]
const RUNS_CODE: &[Rule] = &[
    rule("aiplatform", "*", "assign deploy deployModel deployPublisherModel execute executeCode bidiExecute asyncQuery query streamQuery"),
    rule("aiplatform", "batchPredictionJobs", "create"),
    rule("aiplatform", "customJobs", "create"),
    rule("aiplatform", "extensions", "import"),
    rule("aiplatform", "hyperparameterTuningJobs", "create"),
    rule("aiplatform", "nasJobs", "create"),
    rule("aiplatform", "notebookExecutionJobs", "create"),
    rule("aiplatform", "notebookRuntimes", "start"),
    rule("aiplatform", "persistentResources", "create patch"),
    rule("aiplatform", "pipelineJobs", "create"),
    rule("aiplatform", "reasoningEngines", "create patch"),
    rule("aiplatform", "sandboxEnvironments", "create"),
    rule("aiplatform", "schedules", "create patch resume"),
    rule("aiplatform", "trainingPipelines", "create"),
    rule("appengine", "versions", "create patch"),
    rule("appengine", "instances", "debug"),
    rule("batch", "jobs", "create"),
    // Functions that call a service, and procedures.
    rule("bigquery", "routines", "insert update"),
    rule("bigquerydatatransfer", "transferConfigs", "create patch scheduleRuns startManualRuns"),
    rule("cloudbuild", "builds", "approve create retry"),
    rule("cloudbuild", "triggers", "create patch run webhook"),
    rule("cloudbuild", "workerPools", "create patch"),
    rule("cloudbuild", "*", "processWebhook receive regionalWebhook webhook"),
    rule("clouddeploy", "automations", "create patch"),
    rule("clouddeploy", "customTargetTypes", "create patch"),
    rule("clouddeploy", "deliveryPipelines", "create patch rollbackTarget"),
    rule("clouddeploy", "releases", "create"),
    rule("clouddeploy", "rollouts", "advance approve create retryJob"),
    rule("clouddeploy", "targets", "create patch"),
    rule("cloudfunctions", "functions", "call commitFunctionUpgrade commitFunctionUpgradeAsGen2 create patch redirectFunctionUpgradeTraffic setupFunctionUpgradeConfig update"),
    rule("cloudscheduler", "jobs", "create patch resume run"),
    rule("cloudshell", "environments", "authorize patch start"),
    rule("cloudtasks", "tasks", "batchCreate buffer create run"),
    rule("colaboratory", "runtimes", "create"),
    rule("composer", "environments", "create executeAirflowCommand loadSnapshot patch"),
    rule("composer", "userWorkloadsConfigMaps", "create update"),
    rule("composer", "userWorkloadsSecrets", "create update"),
    // Startup scripts and images of machines; guest extensions.
    rule("compute", "*", "bulkInsert setMetadata"),
    rule("compute", "instances", "insert update"),
    rule("compute", "regionInstances", "insert"),
    rule("compute", "instanceTemplates", "insert"),
    rule("compute", "regionInstanceTemplates", "insert"),
    rule("compute", "instanceGroupManagers", "insert patch setInstanceTemplate update"),
    rule("compute", "regionInstanceGroupManagers", "insert patch setInstanceTemplate update"),
    rule("compute", "projects", "setCommonInstanceMetadata"),
    rule("compute", "folderGlobalVmExtensionPolicies", "insert update"),
    rule("compute", "folderZoneVmExtensionPolicies", "insert update"),
    rule("compute", "globalVmExtensionPolicies", "insert update"),
    rule("compute", "organizationGlobalVmExtensionPolicies", "insert update"),
    rule("compute", "organizationZoneVmExtensionPolicies", "insert update"),
    rule("compute", "zoneVmExtensionPolicies", "insert update"),
    rule("config", "deploymentGroups", "create patch provision"),
    rule("config", "deployments", "create importState patch"),
    rule("config", "previews", "create"),
    rule("dataflow", "flexTemplates", "launch"),
    rule("dataflow", "jobs", "create update"),
    rule("dataflow", "templates", "create launch"),
    rule("dataform", "releaseConfigs", "create patch"),
    rule("dataform", "workflowConfigs", "create patch"),
    rule("dataform", "workflowInvocations", "create"),
    rule("dataform", "workspaces", "installNpmPackages"),
    rule("datafusion", "instances", "create"),
    rule("datapipelines", "pipelines", "create patch run"),
    rule("dataplex", "tasks", "create patch run"),
    rule("dataproc", "batches", "create"),
    rule("dataproc", "clusters", "create patch"),
    rule("dataproc", "jobs", "submit submitAsOperation"),
    rule("dataproc", "sessions", "create"),
    rule("dataproc", "sessionTemplates", "create patch"),
    rule("dataproc", "workflowTemplates", "create instantiate instantiateInline update"),
    rule("deploymentmanager", "deployments", "insert patch update"),
    rule("deploymentmanager", "compositeTypes", "insert patch update"),
    rule("deploymentmanager", "typeProviders", "insert patch update"),
    rule("eventarc", "enrollments", "create patch"),
    rule("eventarc", "pipelines", "create patch"),
    rule("eventarc", "triggers", "create patch"),
    rule("firebaseapphosting", "*", "create patch"),
    rule("genomics", "pipelines", "create run"),
    // Config Sync applies what a repository says to a cluster.
    rule("gkehub", "features", "create patch"),
    rule("integrations", "*", "execute executeEvent executeTest publish replay schedule test"),
    rule("lifesciences", "pipelines", "run"),
    rule("ml", "jobs", "create"),
    rule("ml", "versions", "create patch"),
    rule("notebooks", "environments", "create"),
    rule("notebooks", "executions", "create"),
    rule("notebooks", "instances", "create patch start updateMetadataItems"),
    rule("notebooks", "runtimes", "create patch start"),
    rule("notebooks", "schedules", "create trigger"),
    rule("osconfig", "guestPolicies", "create patch"),
    rule("osconfig", "osPolicyAssignments", "create patch"),
    rule("osconfig", "patchDeployments", "create patch resume"),
    rule("osconfig", "patchJobs", "execute"),
    rule("osconfig", "policyOrchestrators", "create patch"),
    rule("remotebuildexecution", "actions", "execute"),
    rule("remotebuildexecution", "workerpools", "create patch"),
    rule("run", "builds", "submit"),
    rule("run", "instances", "create patch replaceInstance start"),
    rule("run", "jobs", "create patch replaceJob run"),
    rule("run", "services", "create patch replaceService"),
    rule("run", "workerpools", "create patch replaceWorkerPool"),
    rule("script", "deployments", "create update"),
    rule("script", "projects", "updateContent"),
    rule("script", "scripts", "run"),
    rule("testing", "deviceSessions", "create"),
    rule("testing", "testMatrices", "create"),
    rule("tpu", "nodes", "create patch"),
    rule("tpu", "queuedResources", "create"),
    rule("workflowexecutions", "executions", "create"),
    rule("workflowexecutions", "workflows", "triggerPubsubExecution"),
    rule("workflows", "workflows", "create patch"),
    rule("workstations", "workstationConfigs", "create patch"),
    rule("workstations", "workstations", "create patch start"),
];

pub(super) fn is_iam(method: Method<'_>) -> bool {
    IAM.iter().any(|rule| rule.covers(method))
}

pub(super) fn is_secret(method: Method<'_>) -> bool {
    SECRET.iter().any(|rule| rule.covers(method)) || hands_out_credential(method)
}

pub(super) fn runs_code(method: Method<'_>) -> bool {
    RUNS_CODE.iter().any(|rule| rule.covers(method))
}

fn hands_out_credential(method: Method<'_>) -> bool {
    one_of(HANDS_OUT, method.first_word())
        && method
            .words()
            .last()
            .is_some_and(|word| one_of(CREDENTIALS, word))
        && !one_of(NOT_SECRET, method.name)
}
