"""How long the console's pages take on a large database: every list, filtered and searched as the page offers.

A million events, a hundred thousand rooms, ten thousand destinations, an MLS group of a thousand devices, and of
everything else in proportion. Server time
is measured inside of the server's Django, without network and browser: a page may take 300 ms.
"""

from bench.lab import Lab
from bench.report import Figure
from bench.sizes import Sizes

BAR_MS = 300.0
SHOWN = 15
"""Pages that are shown: the slowest."""


def measure(lab: Lab, sizes: Sizes) -> list[Figure]:
    """Fill a server of its own and open every page."""
    inside = lab.inside_of(lab.server("console"))
    inside.call(
        "bench.inside.filling:fill",
        events=sizes.console_events,
        rooms=sizes.console_events // 10,
        destinations=sizes.console_events // 100,
        devices=sizes.console_events // 1000,
    )
    pages = sorted(inside.call("bench.inside.browsing:browse"), key=lambda page: -page[1])
    slow = [page for page in pages if page[1] > BAR_MS]
    figures = [Figure("console_pages_count", "Pages of the console opened", float(len(pages)), unit="pages")]
    figures.append(Figure("console_slow_count", "of them over 300 ms", float(len(slow)), unit="pages", at_most=0))
    for number, (address, milliseconds, queries) in enumerate(pages[: max(SHOWN, len(slow))], start=1):
        text = f"{address} ({queries} queries)"
        figures.append(Figure(f"console_{number}_ms", text, milliseconds, unit="ms", at_most=BAR_MS))
    return figures
