import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.Future;
import java.util.concurrent.FutureTask;
import java.util.concurrent.Semaphore;
import java.util.concurrent.ThreadLocalRandom;

/**
 * A service that turns GET /r/TOKEN?k=K&amp;par=0|1 into K calls GET http://BACKEND/b/TOKEN/I, in the ways that Java services do.
 *
 * <p>--style pool: a thread of the server's pool handles the request and calls by HttpURLConnection; parallel calls go to
 * an executor of their own. handoff: the thread that reads the request gives it to a second executor, which calls and
 * answers. async: HttpClient.sendAsync, the answer is written by a completion. client: HttpClient.send (blocking).
 * virtual: a virtual thread a request (JDK 21 and newer). --threads N: size of the pools.
 *
 * <p>--jobs: how parallel calls are given away. pool: a job of an executor each. batch: two jobs, each makes its calls one
 * after the other. fork: CompletableFuture in a ForkJoinPool. thread: a new thread each. nested: a job that gives a job for
 * each call to another executor, and waits for them. mixed: any of these ways, and for a part of the requests the last
 * call in a job that is given away after the response.
 *
 * <p>Also with virtual threads: all: CompletableFuture.allOf. join: a new virtual thread each, which is joined. scope: a
 * StructuredTaskScope (JDK 21). latch: jobs without a result, a latch that they count down. phases: a job for each of the first half of the calls, and then for the
 * others. shared: a request waits for the job of another one that makes the same call already. guarded: as many jobs at a time as a semaphore of the service allows, for which a request waits in between.
 */
public final class Service {
    private final String backend;
    private final String style;
    private final String jobs;
    private final ExecutorService callers;
    private final ExecutorService second;
    private final ForkJoinPool forked;
    private final HttpClient client;
    private final Semaphore guard = new Semaphore(6);
    private final Map<Integer, Future<?>> flights = new ConcurrentHashMap<>();

    private Service(Map<String, String> options) {
        backend = options.get("backend");
        style = options.getOrDefault("style", "pool");
        jobs = options.getOrDefault("jobs", "pool");
        int threads = Integer.parseInt(options.getOrDefault("threads", "32"));
        boolean virtual = style.equals("virtual");
        callers = virtual ? perTask() : Executors.newFixedThreadPool(threads);
        second = Executors.newFixedThreadPool(threads);
        forked = new ForkJoinPool(threads);
        client = style.equals("async") || style.equals("client")
            ? HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build() : null;
    }

    /** Executors.newVirtualThreadPerTaskExecutor(), by reflection: this is compiled for JDK 11 too. */
    private static ExecutorService perTask() {
        try {
            return (ExecutorService) Executors.class.getMethod("newVirtualThreadPerTaskExecutor").invoke(null);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException("virtual threads need JDK 21", e);
        }
    }

    private void call(String path) throws IOException, InterruptedException {
        if (client != null) {
            HttpResponse<byte[]> response = client.send(request(path), HttpResponse.BodyHandlers.ofByteArray());
            check(response.statusCode());
            return;
        }
        HttpURLConnection connection = (HttpURLConnection) new URL("http://" + backend + path).openConnection();
        try (InputStream body = connection.getInputStream()) {
            byte[] buffer = new byte[4096];
            while (body.read(buffer) >= 0) {
                continue;
            }
        }
        check(connection.getResponseCode());
    }

    private HttpRequest request(String path) {
        return HttpRequest.newBuilder(URI.create("http://" + backend + path)).build();
    }

    private static void check(int status) throws IOException {
        if (status != 200) {
            throw new IOException("backend: " + status);
        }
    }

    private static final String[] WAYS = {"pool", "batch", "fork", "thread", "nested"};

    private void blocking(List<String> paths, boolean parallel) throws Exception {
        if (!parallel) {
            for (String path : paths) {
                call(path);
            }
            return;
        }
        List<Future<?>> pending = new ArrayList<>();
        switch (jobs.equals("mixed") ? WAYS[ThreadLocalRandom.current().nextInt(WAYS.length)] : jobs) {
            case "batch":
                int half = (paths.size() + 1) / 2;
                pending.add(callers.submit(job(paths.subList(0, half))));
                pending.add(callers.submit(job(paths.subList(half, paths.size()))));
                break;
            case "fork":
                for (String path : paths) {
                    pending.add(CompletableFuture.runAsync(quiet(path), forked));
                }
                break;
            case "thread":
                for (String path : paths) {
                    FutureTask<Void> one = new FutureTask<>(job(List.of(path)));
                    new Thread(one).start();
                    pending.add(one);
                }
                break;
            case "all":
                List<CompletableFuture<Void>> all = new ArrayList<>();
                for (String path : paths) {
                    all.add(CompletableFuture.runAsync(quiet(path), callers));
                }
                CompletableFuture.allOf(all.toArray(new CompletableFuture<?>[0])).join();
                break;
            case "join":
                List<Thread> started = new ArrayList<>();
                for (String path : paths) {
                    started.add((Thread) Thread.class.getMethod("startVirtualThread", Runnable.class)
                        .invoke(null, quiet(path)));
                }
                for (Thread one : started) {
                    one.join();
                }
                break;
            case "latch":
                CountDownLatch left = new CountDownLatch(paths.size());
                for (String path : paths) {
                    callers.execute(() -> {
                        quiet(path).run();
                        left.countDown();
                    });
                }
                left.await();
                break;
            case "shared":
                for (int i = 0; i < paths.size(); i++) {
                    String path = paths.get(i);
                    pending.add(flights.computeIfAbsent(i, key -> callers.submit(() -> {
                        try {
                            call(path);
                        } finally {
                            flights.remove(key);
                        }
                        return null;
                    })));
                }
                break;
            case "scope":
                Class<?> kind = Class.forName("java.util.concurrent.StructuredTaskScope");
                Object scope = kind.getConstructor().newInstance();
                for (String path : paths) {
                    kind.getMethod("fork", Callable.class).invoke(scope, job(List.of(path)));
                }
                kind.getMethod("join").invoke(scope);
                kind.getMethod("close").invoke(scope);
                break;
            case "phases":
                each(paths.subList(0, (paths.size() + 1) / 2));
                each(paths.subList((paths.size() + 1) / 2, paths.size()));
                break;
            case "guarded":
                for (String path : paths) {
                    guard.acquire();
                    pending.add(callers.submit(() -> {
                        try {
                            call(path);
                        } finally {
                            guard.release();
                        }
                        return null;
                    }));
                }
                break;
            case "nested":
                pending.add(second.submit(() -> {
                    each(paths);
                    return null;
                }));
                break;
            default:
                each(paths);
        }
        for (Future<?> one : pending) {
            one.get();
        }
    }

    /** A job for each call, and waits for them. */
    private void each(List<String> paths) throws Exception {
        List<Future<?>> pending = new ArrayList<>();
        for (String path : paths) {
            pending.add(callers.submit(job(List.of(path))));
        }
        for (Future<?> one : pending) {
            one.get();
        }
    }

    private Runnable quiet(String path) {
        return () -> {
            try {
                call(path);
            } catch (IOException | InterruptedException e) {
                throw new IllegalStateException(e);
            }
        };
    }

    private Callable<Void> job(List<String> paths) {
        return () -> {
            for (String path : paths) {
                call(path);
            }
            return null;
        };
    }

    private CompletableFuture<Void> async(List<String> paths, boolean parallel) {
        CompletableFuture<Void> all = CompletableFuture.completedFuture(null);
        for (String path : paths) {
            if (parallel) {
                all = all.thenCombine(send(path), (a, b) -> null);
            } else {
                all = all.thenCompose(ignored -> send(path));
            }
        }
        return all;
    }

    private CompletableFuture<Void> send(String path) {
        return client.sendAsync(request(path), HttpResponse.BodyHandlers.ofByteArray()).thenAccept(response -> {
            if (response.statusCode() != 200) {
                throw new IllegalStateException("backend: " + response.statusCode());
            }
        });
    }

    private static void answer(HttpExchange exchange, Throwable error) {
        try {
            byte[] body = (error == null ? "ok\n" : error + "\n").getBytes();
            exchange.sendResponseHeaders(error == null ? 200 : 502, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        } catch (IOException e) {
            exchange.close();
        }
    }

    private void handle(HttpExchange exchange) {
        String token = exchange.getRequestURI().getPath().substring("/r/".length());
        String query = exchange.getRequestURI().getQuery();
        int k = 1;
        boolean parallel = false;
        for (String word : query == null ? new String[0] : query.split("&")) {
            if (word.startsWith("k=")) {
                k = Integer.parseInt(word.substring(2));
            } else if (word.equals("par=1")) {
                parallel = true;
            }
        }
        List<String> paths = new ArrayList<>();
        for (int i = 0; i < Math.min(k, 64); i++) {
            paths.add("/b/" + token + "/" + i);
        }
        if (style.equals("async")) {
            async(paths, parallel).whenComplete((ignored, error) -> answer(exchange, error));
            return;
        }
        boolean together = parallel;
        boolean late = jobs.equals("mixed") && ThreadLocalRandom.current().nextInt(4) == 0;
        Runnable work = () -> {
            Throwable error = null;
            try {
                blocking(late ? paths.subList(0, paths.size() - 1) : paths, together);
            } catch (Exception e) {
                error = e;
            }
            answer(exchange, error);
            if (late) {
                callers.submit(job(paths.subList(paths.size() - 1, paths.size())));
            }
        };
        if (style.equals("handoff")) {
            second.execute(work);
        } else {
            work.run();
        }
    }

    public static void main(String[] words) throws IOException {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i + 1 < words.length; i += 2) {
            options.put(words[i].substring(2), words[i + 1]);
        }
        Service service = new Service(options);
        int port = Integer.parseInt(options.get("port"));
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 1024);
        int threads = Integer.parseInt(options.getOrDefault("threads", "32"));
        Executor executor = service.style.equals("virtual") ? perTask() : Executors.newFixedThreadPool(threads);
        server.setExecutor(executor);
        server.createContext("/", service::handle);
        server.start();
    }
}
