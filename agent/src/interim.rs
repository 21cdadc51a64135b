//! Keeps an HTTP/1.1 client waiting with interim responses while a person decides.
