"""A verification in words, for both commands that have one."""

from rooms.export.problems import Report


def harmless(text: object) -> str:
    """What a file says as one line that cannot steer a terminal. `rooms.wording` needs Django."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(text))


def told(report: Report) -> list[str]:
    """The lines that say what a file holds and whether it holds."""
    header, found = report.header, report.found
    missing = [
        f"{found[kind]} {name}"
        for kind, name in (
            ("gap", "gaps"),
            ("passed_over", "events passed over"),
            ("outlier", "events without a place"),
        )
        if found[kind]
    ]
    lines = [
        f"room      {report.room_id}, version {header.text('room_version')}, hub {report.hub_server}",
        f"exported  by {header.text('exported_by')}",
        f"line      {found['event']} events to {report.head_event_id}{', ' if missing else ''}{', '.join(missing)}",
        f"keys      {found['key']}, of which {report.unproven_keys} without their server's answer",
        *(f"          {report.hub_server} {key_id} {key}" for key_id, key in sorted(report.hub_keys)),
        f"sha-256   {report.sha256}",
    ]
    if report.problems:
        lines.append("WRONG     " + ", ".join(f"{count} {kind}" for kind, count in sorted(report.problems.items())))
    elif report.complete:
        lines.append("holds     hashes, signatures, ids, the chain from the create event on, the authorization rules")
    else:
        lines.append("holds     hashes, signatures, ids, the chain; the rules need history that is not in the file")
    return lines
