//! The lab: namespaces and real peers for the end-to-end tests.
