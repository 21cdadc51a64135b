//! Starts a command in a session: cgroup, namespaces, user, environment, system-call filter.
