import io.vertx.core.AbstractVerticle;
import io.vertx.core.DeploymentOptions;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.http.HttpServerRequest;
import io.vertx.ext.web.client.WebClient;
import io.vertx.ext.web.client.WebClientOptions;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * A service that turns GET /r/TOKEN?k=K&amp;par=0|1 into K calls GET http://BACKEND/b/TOKEN/I on Vert.x event loops (Netty).
 * --loops N: event loops, each with a client of its own; --sockets N: connections a client opens at most.
 */
public final class VertxService extends AbstractVerticle {
    private static final Map<String, String> OPTIONS = new HashMap<>();
    private WebClient client;
    private String host;
    private int port;

    private Future<Void> call(String path) {
        return client.get(port, host, path).send().compose(response -> response.statusCode() == 200
            ? Future.succeededFuture() : Future.failedFuture("backend: " + response.statusCode()));
    }

    private void handle(HttpServerRequest request) {
        String token = request.path().substring("/r/".length());
        int k = Math.min(64, Integer.parseInt(request.getParam("k", "1")));
        boolean parallel = "1".equals(request.getParam("par"));
        Future<Void> all = Future.succeededFuture();
        List<Future<Void>> pending = new ArrayList<>();
        for (int i = 0; i < k; i++) {
            String path = "/b/" + token + "/" + i;
            if (parallel) {
                pending.add(call(path));
            } else {
                all = all.compose(ignored -> call(path));
            }
        }
        Future<?> end = parallel ? Future.all(pending) : all;
        end.onSuccess(ignored -> request.response().end("ok\n"))
            .onFailure(error -> request.response().setStatusCode(502).end(error + "\n"));
    }

    @Override
    public void start() {
        String[] backend = OPTIONS.get("backend").split(":");
        host = backend[0];
        port = Integer.parseInt(backend[1]);
        client = WebClient.create(vertx, new WebClientOptions().setMaxPoolSize(
            Integer.parseInt(OPTIONS.getOrDefault("sockets", "16"))));
        vertx.createHttpServer().requestHandler(this::handle)
            .listen(Integer.parseInt(OPTIONS.get("port")), "127.0.0.1");
    }

    public static void main(String[] words) {
        for (int i = 0; i + 1 < words.length; i += 2) {
            OPTIONS.put(words[i].substring(2), words[i + 1]);
        }
        Vertx.vertx().deployVerticle(VertxService.class.getName(), new DeploymentOptions().setInstances(
            Integer.parseInt(OPTIONS.getOrDefault("loops", "2"))));
    }
}
