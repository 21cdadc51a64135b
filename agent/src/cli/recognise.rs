//! `holdpoint recognise`: what Holdpoint makes of captured requests, offline.
