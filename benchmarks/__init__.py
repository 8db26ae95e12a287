"""This mirror beside other servers: `make bench`, or `python -m benchmarks [ROW...]`.

It takes those peers that are installed: nginx (static files, proxy_cache, slice), varnish, and go-omaha's serve-package
where `SERVE_PACKAGE` names the binary or it is on the path. All servers of a row run at the same time and are measured in
turns; the clients have processes of their own. What is compared is the CPU that the process tree of a server uses (user and
system), and what clients see. Ratios within one run mean something on any machine, seconds do on an idle one.

    __main__.py, bench.py     the rows that are wanted, one after the other
    rows/                     what is measured: checks, packages, and what grows
    servers.py, origin.py     the servers, and the release server behind them
    clients.py                who asks
    results.py                build/bench/results.json
    report.py, plot.py        build/bench/table.md and *.svg; `--publish` puts them into the README
    guard.py                  `make bench-guard`: this tree against another commit

Each of attack.py, fleet.py, path.py and proof.py is a thing of its own.
"""
