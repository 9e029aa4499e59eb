"""DNS over UDP and TCP → one span a question.

Conventions: the OpenTelemetry registry has `dns.question.name`, `dns.answers` (the addresses), and the metric
`dns.lookup.duration` with the name and `error.type`; there is no attribute for the type and none for the response code.
So the type is in the span's name ("DNS AAAA"), and a response code other than NOERROR is the `error.type` ("NXDOMAIN").

Names are lower-case: the registry asks for none of it, but resolvers randomise the case of each query against forged
answers, and each spelling would be a series of its own.

Names and answers vary without end, and what is in `Fields` must not. A name is a slot of the span. The metric wants it
as an attribute: the first MAX_NAMES different names have it, the rest is summed up in one series marked
`otel.metric.overflow`, as in the OpenTelemetry SDKs' cardinality limit. `dns.answers` is an array, which a slot cannot
be: it is left out where new combinations come faster than one in RATIO exchanges (a resolver that serves many).
"""

from __future__ import annotations

from collections.abc import Sequence

from otel_ebpf.model import Attributes
from otel_ebpf.protocols import dns_messages as wire
from otel_ebpf.protocols.base import Fields, Options, Reading, Session, Side, Slot
from otel_ebpf.protocols.dns_messages import Message

MAX_NAMES = 1000
"""Different names that the metric tells apart."""
MAX_FIELDS = 2000
"""Different kinds of exchange that are remembered, and that may be new before RATIO applies."""
RATIO = 16
MAX_ANSWERS = 32
"""Addresses of one answer that are reported."""

NAME = Slot("dns.question.name", 0)
OVERFLOW: Attributes = (("otel.metric.overflow", True),)

# https://www.iana.org/assignments/dns-parameters
TYPES = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    10: "NULL",
    12: "PTR",
    13: "HINFO",
    15: "MX",
    16: "TXT",
    17: "RP",
    18: "AFSDB",
    24: "SIG",
    25: "KEY",
    28: "AAAA",
    29: "LOC",
    33: "SRV",
    35: "NAPTR",
    36: "KX",
    37: "CERT",
    39: "DNAME",
    42: "APL",
    43: "DS",
    44: "SSHFP",
    45: "IPSECKEY",
    46: "RRSIG",
    47: "NSEC",
    48: "DNSKEY",
    49: "DHCID",
    50: "NSEC3",
    51: "NSEC3PARAM",
    52: "TLSA",
    53: "SMIMEA",
    55: "HIP",
    59: "CDS",
    60: "CDNSKEY",
    61: "OPENPGPKEY",
    62: "CSYNC",
    63: "ZONEMD",
    64: "SVCB",
    65: "HTTPS",
    99: "SPF",
    108: "EUI48",
    109: "EUI64",
    249: "TKEY",
    250: "TSIG",
    251: "IXFR",
    252: "AXFR",
    255: "ANY",
    256: "URI",
    257: "CAA",
}
LOOKUPS = frozenset({"A", "AAAA", "ANY"})
"""Types of questions whose answer is addresses; a zone transfer lists some as well."""
OPCODES = {1: "IQUERY", 2: "STATUS", 4: "NOTIFY", 5: "UPDATE", 6: "DSO"}
RCODES = {
    0: "NOERROR",
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
    6: "YXDOMAIN",
    7: "YXRRSET",
    8: "NXRRSET",
    9: "NOTAUTH",
    10: "NOTZONE",
    11: "DSOTYPENI",
    16: "BADVERS",
    17: "BADKEY",
    18: "BADTIME",
    19: "BADMODE",
    20: "BADNAME",
    21: "BADALG",
    22: "BADTRUNC",
    23: "BADCOOKIE",
}


class Dns:
    """The `Protocol` of DNS; see the module's docstring.

    >>> query = bytes.fromhex("1a2b01000001000000000000 03777777 0474657374 00 0001 0001")
    >>> [reading] = Dns().parse(query, b"", Session(), Options())
    >>> reading.fields.client.name, reading.texts
    ('DNS A', ('www.test',))
    """

    name = "dns"
    duration_metric = ("", "dns.lookup.duration")

    def __init__(self) -> None:
        self._fields: dict[tuple[str, str, str | None, tuple[str, ...]], Fields] = {}
        self._names: set[str] = set()
        self._parsed = 0
        self._new = 0

    def detect(self, request: bytes, response: bytes) -> float:
        """A question and the answer that bears its id are DNS; alone, each only has to be well-formed."""
        asked = wire.messages(request)
        answered = wire.messages(response)
        if any(message.is_response for message in asked) or any(not message.is_response for message in answered):
            return 0.0
        if asked and answered:
            return 0.98 if _answer(asked[0], answered) or _answer(answered[0], asked) else 0.3
        named = [message for message in asked or answered if message.name]
        if not named or (request and not asked):
            return 0.0
        if response and not answered:
            return 0.3
        return 0.9 if named[0].type in TYPES else 0.5

    def parse(self, request: bytes, response: bytes, session: Session, options: Options) -> Sequence[Reading]:
        """One Reading a question's message; an answer with another id or question is not this one's."""
        asked = [message for message in wire.messages(request) if not message.is_response]
        answered = [message for message in wire.messages(response) if message.is_response] if response else []
        if not request:  # the answer repeats the question
            return [self._reading(message, message) for message in answered if message.name]
        return [self._reading(question, _answer(question, answered)) for question in asked if question.name]

    def answers(self, response: bytes) -> list[tuple[str, str, int]]:
        """(name, address, seconds to live) that an answer teaches, for naming peers.

        The name is the one that was asked for, also where aliases (CNAME) lie between; then the shortest time to live
        of the chain counts. Without a question (mDNS) it is the record's own.

        >>> header, question = "1a2b 8180 0001 0001 0000 0000", "0161 0474657374 00 0001 0001"
        >>> Dns().answers(bytes.fromhex(header + question + "c00c 0001 0001 0000003c 0004 7f000004"))
        [('a.test', '127.0.0.4', 60)]
        """
        found = []
        for message in wire.messages(response):
            if not message.is_response or message.rcode or message.opcode != wire.QUERY:
                continue
            asked, shortest = message.name, 2**31 - 1  # RFC 2181 §8: the longest time to live
            reached = asked
            for record in message.answers:
                if record.type == wire.CNAME:
                    if record.name == reached:
                        reached, shortest = record.data, min(shortest, record.ttl)
                elif record.name == reached:
                    found.append((asked, record.data, min(shortest, record.ttl)))
                elif not asked:
                    found.append((record.name, record.data, record.ttl))
        return found

    def _reading(self, question: Message, answer: Message | None) -> Reading:
        self._parsed += 1
        operation = TYPES.get(question.type) or f"TYPE{question.type}"  # RFC 3597 §5
        if question.opcode != wire.QUERY:
            operation = OPCODES.get(question.opcode) or f"OPCODE{question.opcode}"
        status = ""
        addresses: tuple[str, ...] = ()
        if answer is not None:
            status = RCODES.get(answer.rcode) or f"RCODE{answer.rcode}"
            if operation in LOOKUPS:
                found = {record.data for record in answer.answers if record.type != wire.CNAME}
                addresses = tuple(sorted(found)[:MAX_ANSWERS])  # servers rotate them
        metric_name = self._counted(question.name)
        key = (operation, status, metric_name, addresses)
        fields = self._fields.get(key)
        if fields is None and addresses and self._new >= MAX_FIELDS + self._parsed // RATIO:
            key = (operation, status, metric_name, ())
            fields = self._fields.get(key)
        if fields is None:
            self._new += 1
            if len(self._fields) >= MAX_FIELDS:
                self._fields.clear()
            fields = self._fields[key] = _fields(*key)
        return Reading(fields, (question.name,))

    def _counted(self, name: str) -> str | None:
        """The name if the metric tells it apart."""
        if name not in self._names:
            if len(self._names) >= MAX_NAMES:
                return None
            self._names.add(name)
        return name


def _fields(operation: str, status: str, metric_name: str | None, addresses: tuple[str, ...]) -> Fields:
    failure: Attributes = (("error.type", status),) if status not in ("", "NOERROR") else ()
    attributes = failure
    if addresses:
        attributes = (("dns.answers", addresses), *failure)
    metric = (("dns.question.name", metric_name), *failure) if metric_name is not None else OVERFLOW
    name = f"DNS {operation}"
    server = Side(name, attributes, (), bool(failure), (NAME,))
    return Fields("dns", server, Side(name, attributes, metric, bool(failure), (NAME,)), status)


def _answer(question: Message, answers: Sequence[Message]) -> Message | None:
    """The one of `answers` that answers the question: same id, and the same question where it is repeated."""
    for answer in answers:
        repeated = not answer.name or (answer.name == question.name and answer.type == question.type)
        if answer.id == question.id and repeated:
            return answer
    return None
