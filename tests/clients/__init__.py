"""End users' clients: real implementations of MLS and of Olm and Megolm, driven by tests.

They hold what no server ever has: private keys and plaintext. `ts_mls` (npm, on Node) and `mls_rs` (a wheel) are
MLS clients with one interface (`mls.Client`), `olm` is vodozemac. `record` writes tests/vectors/mls with them.
"""
