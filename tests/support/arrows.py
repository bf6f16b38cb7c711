"""Which rooms of the package may import which; ARCHITECTURE.md shows the same."""

#: Room -> rooms of ours that it may import ("errors" is the package's error tree).
ARROWS = {
    "shared": set(),
    "plan": {"shared", "errors"},
    "job": {"plan", "shared", "errors", "env"},
    "study": {"plan", "shared", "errors", "env"},
    "track": {"plan", "shared", "errors"},
    "diagnose": {"plan", "shared", "errors"},
    "data": {"shared", "errors"},
    "report": {"plan", "study", "job", "track", "results", "shared", "errors"},
    "preflight": {"plan", "job", "study", "track", "data", "shared", "errors", "env"},
    "launch": {"preflight", "study", "job", "plan", "shared", "errors", "env"},
    "cluster": {"launch", "study", "plan", "shared", "errors", "env"},
    "refine": {"report", "launch", "study", "job", "plan", "shared", "errors"},
    "manage": {"launch", "preflight", "study", "job", "diagnose", "plan", "shared", "errors"},
}
