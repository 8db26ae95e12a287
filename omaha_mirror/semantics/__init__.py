"""HTTP semantics of RFC 9110 as pure functions: ranges and conditional requests."""
