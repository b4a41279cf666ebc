"""The features of the feature examples, as a spec."""

WINDOWS = (5, 10, 20, 50)
SPEC = {
    "schema_version": "2.0",
    "features": [
        {"name": f"{op.lower()}_{w}", "op": op, "window": w}
        for w in WINDOWS
        for op in ("SMA", "EMA", "VOLATILITY")
    ],
}
