"""A variable for each key of the config, which goes before the file.

The name is OMAHA_MIRROR_ and the keys that lead to the value, in upper case, with two underscores
between them: OMAHA_MIRROR_UPSTREAM__RATE_LIMIT. The value is YAML, as it would stand after the
key in the file. An empty variable counts as not set.
"""

import re
from collections.abc import Iterator, Mapping

from omaha_mirror.config import urls, yaml_marks
from omaha_mirror.config.errors import Problem, did_you_mean
from omaha_mirror.config.model import Config
from omaha_mirror.config.proxies import proxy_of
from omaha_mirror.config.section import keys
from omaha_mirror.config.yaml_marks import Document

PREFIX = "OMAHA_MIRROR_"
VARIABLES = {PREFIX + "__".join(path).upper(): path for path in keys(Config)}
"""The name of each variable, and the path of its key."""

_KUBERNETES = re.compile(r"(SERVICE_(HOST|PORT(_.+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)")
"""What Kubernetes sets after the prefix in every pod beside a service named omaha-mirror."""


def given(environ: Mapping[str, str]) -> list[str]:
    """The variables that set a key, in the order of the model."""
    return [name for name in VARIABLES if environ.get(name, "").strip()]


def documents(environ: Mapping[str, str]) -> list[Document]:
    """What the variables say, each a document that belongs at the path of its key."""
    return [yaml_marks.read(name, environ[name], VARIABLES[name]) for name in given(environ)]


def wrong_proxies(config: Config, environ: Mapping[str, str]) -> list[Problem]:
    """The proxies of the environment that upstream would be asked through, and that cannot be used."""
    found = {}
    for url in (config.upstream.omaha_url, config.upstream.release_url):
        named = (
            proxy_of(url, environ) if url is not None and config.upstream.proxy is None else None
        )
        if named is None:
            continue
        name, proxy = named
        try:
            urls.proxy(proxy)
        except ValueError as error:
            found[name] = Problem(
                name, f"{error}; upstream.proxy goes before it, and with no_proxy=* there is none"
            )
    return list(found.values())


def unknown(environ: Mapping[str, str]) -> Iterator[Problem]:
    """The variables with our prefix that no key has."""
    known = [name.removeprefix(PREFIX) for name in VARIABLES]
    for name in sorted(environ.keys() - VARIABLES.keys()):
        rest = name.removeprefix(PREFIX)
        if rest != name and not _KUBERNETES.fullmatch(rest):
            near = did_you_mean(rest.upper(), known, PREFIX)
            yield Problem(name, f"no key of the config has this variable{near}")
