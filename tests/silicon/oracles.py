"""At the end of a run: which real things accsim was compared with, and which were not there.

A plugin of pytest. A test that has a property "oracle" (`record_property`) is listed. The value is a dict: name, and either cases,
differ (how many are not those of exact arithmetic) and wrong, or install.
"""


def pytest_terminal_summary(terminalreporter):
    """The oracles; properties come with the reports, from pytest-xdist's workers, too."""
    reports = [report for kind in terminalreporter.stats.values() for report in kind]
    found = {}
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == "oracle":
                found[report.nodeid, value["name"]] = value
    ran = [value for value in found.values() if "cases" in value]
    missing = [value for value in found.values() if "install" in value]
    if found:
        terminalreporter.section(f"oracles: {len(ran)} compared, {len(missing)} not there")
    for value in sorted(ran, key=lambda value: value["name"]):
        share = value["differ"] / value["cases"]
        terminalreporter.write_line(
            f"{value['name']}: {value['cases']:,} outputs, {value['wrong']:,} wrong; "
            f"{value['differ']:,} ({share:.1%}) are not those of exact arithmetic"
        )
    for value in sorted(missing, key=lambda value: value["name"]):
        terminalreporter.write_line(f"{value['name']}: not compared: {value['install']}")
