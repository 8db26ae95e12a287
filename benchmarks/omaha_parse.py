"""Time of one Omaha request and one answer: `python benchmarks/omaha_parse.py`."""

import timeit
from pathlib import Path

from omaha_mirror.omaha import parse_request, parse_response, serialise_response

DATA = Path(__file__).parent.parent / "tests" / "data" / "omaha"
REQUEST_BYTES = 793


def standard_request() -> bytes:
    """A first check, brought to the size that is usual in the field."""
    body = (DATA / "request_check_first.xml").read_bytes()
    short = REQUEST_BYTES - len(body)
    return body.replace(b'machinealias=""', b'machinealias="' + b"x" * short + b'"')


def microseconds(code: str, **names: object) -> float:
    """The best of seven runs, for one call."""
    number = 2000
    return min(timeit.repeat(code, globals=names, number=number, repeat=7)) / number * 1e6


def main() -> None:
    body = standard_request()
    offer = (DATA / "response_offer.xml").read_bytes()
    response = parse_response(offer)
    for title, size, code in (
        ("parse_request", len(body), "parse_request(body)"),
        ("parse_response", len(offer), "parse_response(offer)"),
        ("serialise_response", len(offer), "serialise_response(response)"),
    ):
        time = microseconds(
            code,
            body=body,
            offer=offer,
            response=response,
            parse_request=parse_request,
            parse_response=parse_response,
            serialise_response=serialise_response,
        )
        print(f"{title:20} {size:5} bytes {time:7.1f} us")


if __name__ == "__main__":
    main()
