//! What can be looked for, by name.

/// A detector that ships with Holdpoint. Its name stands in mask tokens, in counts and in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Builtin {
    /// PEM blocks of private keys, and PKCS #8 keys in base64.
    PrivateKey,
    /// Base64 of a private key, or of a file with one in it (`privateKeyData`, Kubernetes secrets).
    EncodedKey,
    /// Google API keys.
    GoogleApiKey,
    /// Google OAuth access tokens.
    GoogleAccessToken,
    /// Google OAuth refresh tokens.
    GoogleRefreshToken,
    /// Google OAuth client secrets.
    GoogleClientSecret,
    /// GitHub tokens of all kinds.
    GithubToken,
    /// GitLab tokens of all kinds.
    GitlabToken,
    /// Slack tokens.
    SlackToken,
    /// Slack webhook addresses, whose path is the secret.
    SlackWebhook,
    /// AWS access key ids.
    AwsAccessKeyId,
    /// AWS secret access keys, by the name before them.
    AwsSecretKey,
    /// OpenAI API keys.
    OpenaiKey,
    /// Anthropic API keys.
    AnthropicKey,
    /// JSON web tokens, signed or encrypted.
    Jwt,
    /// The password in a URL's authority (`postgres://user:PASSWORD@host`).
    ConnectionPassword,
    /// The signature of a signed URL, which lets its holder do what was signed.
    UrlSignature,
    /// What follows `Bearer` or `Basic`.
    Authorization,
    /// `password=...`, `client_secret: "..."` and the like in running text.
    AssignedSecret,
    /// The whole value of a field, header or parameter whose name says so.
    SecretField,
    /// E-mail addresses of people. Service accounts are no people.
    Email,
    /// Telephone numbers.
    Phone,
    /// International bank account numbers.
    Iban,
    /// Payment card numbers.
    Card,
    /// US social security numbers.
    UsSsn,
    /// The fields in which Google's token-minting methods return what they have minted.
    Minted,
}

use Builtin as B;

impl Builtin {
    /// All of them.
    pub const ALL: [Self; 26] = [
        B::PrivateKey,
        B::EncodedKey,
        B::GoogleApiKey,
        B::GoogleAccessToken,
        B::GoogleRefreshToken,
        B::GoogleClientSecret,
        B::GithubToken,
        B::GitlabToken,
        B::SlackToken,
        B::SlackWebhook,
        B::AwsAccessKeyId,
        B::AwsSecretKey,
        B::OpenaiKey,
        B::AnthropicKey,
        B::Jwt,
        B::ConnectionPassword,
        B::UrlSignature,
        B::Authorization,
        B::AssignedSecret,
        B::SecretField,
        B::Email,
        B::Phone,
        B::Iban,
        B::Card,
        B::UsSsn,
        B::Minted,
    ];

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            B::PrivateKey => "private-key",
            B::EncodedKey => "encoded-key",
            B::GoogleApiKey => "google-api-key",
            B::GoogleAccessToken => "google-access-token",
            B::GoogleRefreshToken => "google-refresh-token",
            B::GoogleClientSecret => "google-client-secret",
            B::GithubToken => "github-token",
            B::GitlabToken => "gitlab-token",
            B::SlackToken => "slack-token",
            B::SlackWebhook => "slack-webhook",
            B::AwsAccessKeyId => "aws-access-key-id",
            B::AwsSecretKey => "aws-secret-key",
            B::OpenaiKey => "openai-key",
            B::AnthropicKey => "anthropic-key",
            B::Jwt => "jwt",
            B::ConnectionPassword => "connection-password",
            B::UrlSignature => "url-signature",
            B::Authorization => "authorization",
            B::AssignedSecret => "assigned-secret",
            B::SecretField => "secret-field",
            B::Email => "email",
            B::Phone => "phone",
            B::Iban => "iban",
            B::Card => "card",
            B::UsSsn => "us-ssn",
            B::Minted => "minted",
        }
    }

    /// The detector of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|builtin| builtin.name() == name)
    }

    /// The built-in set it belongs to.
    #[must_use]
    pub const fn set(self) -> &'static str {
        match self {
            B::Email | B::Phone | B::Iban | B::Card | B::UsSsn => "pii",
            B::Minted => "minted",
            _ => "secrets",
        }
    }

    /// What equal values have in common however they are written: letters and digits where the rest is punctuation.
    pub(super) fn normalised(self, value: &[u8]) -> Vec<u8> {
        match self {
            B::Email => value.to_ascii_lowercase(),
            B::Phone | B::Iban | B::Card | B::UsSsn => value
                .iter()
                .filter(|byte| byte.is_ascii_alphanumeric())
                .map(u8::to_ascii_uppercase)
                .collect(),
            _ => value.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for builtin in Builtin::ALL {
            assert_eq!(Builtin::named(builtin.name()), Some(builtin));
        }
        assert_eq!(Builtin::named("nothing"), None);
    }
}
