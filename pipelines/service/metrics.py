"""Counters and latencies in Prometheus' text format."""

import threading
from collections import Counter

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Requests by route and status, and their durations."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._lock = threading.Lock()

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Add a request."""
        with self._lock:
            self._requests[route, status] += 1
            self._seconds[route] += seconds  # type: ignore[assignment]
            for bound in _BOUNDS:
                if seconds <= bound:
                    self._buckets[route, bound] += 1

    def text(self, gauges: dict[str, float]) -> str:
        """All metrics; `gauges`: name → value."""
        lines = ["# TYPE momentrank_requests_total counter"]
        totals: Counter[str] = Counter()
        for (route, status), count in sorted(self._requests.items()):
            totals[route] += count
            lines.append(f'momentrank_requests_total{{route="{route}",status="{status}"}} {count}')
        lines.append("# TYPE momentrank_request_seconds histogram")
        for route, total in sorted(totals.items()):
            for bound in _BOUNDS:
                count = self._buckets[route, bound]
                lines.append(f'momentrank_request_seconds_bucket{{route="{route}",le="{bound}"}} {count}')
            lines.append(f'momentrank_request_seconds_bucket{{route="{route}",le="+Inf"}} {total}')
            lines.append(f'momentrank_request_seconds_sum{{route="{route}"}} {self._seconds[route]:.6f}')
            lines.append(f'momentrank_request_seconds_count{{route="{route}"}} {total}')
        for name, value in gauges.items():
            lines += [f"# TYPE momentrank_{name} gauge", f"momentrank_{name} {value}"]
        return "\n".join(lines) + "\n"
