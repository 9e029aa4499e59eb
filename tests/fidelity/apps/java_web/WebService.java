import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.sql.Connection;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.apache.hc.client5.http.classic.methods.HttpGet;
import org.apache.hc.client5.http.impl.classic.CloseableHttpClient;
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.client5.http.impl.io.PoolingHttpClientConnectionManagerBuilder;
import org.apache.hc.core5.http.io.entity.EntityUtils;
import org.eclipse.jetty.server.Request;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.server.handler.AbstractHandler;
import org.eclipse.jetty.util.thread.QueuedThreadPool;
import redis.clients.jedis.JedisPooled;

/**
 * The libraries that many Java services are made of: Jetty in front, and behind it Apache HttpClient 5, HikariCP with
 * PostgreSQL's driver, or Jedis. GET /r/TOKEN?k=K&amp;par=0|1 makes K calls (or commands) that carry TOKEN/I; parallel
 * ones in an executor. --style http|sql|redis
 */
public final class WebService extends AbstractHandler {
    private interface Call {
        void make(String name) throws Exception;
    }

    private final Call call;
    private final ExecutorService callers = Executors.newFixedThreadPool(32);

    private WebService(Map<String, String> options) {
        String backend = options.get("backend");
        switch (options.getOrDefault("style", "http")) {
            case "http":
                CloseableHttpClient client = HttpClients.custom().setConnectionManager(
                    PoolingHttpClientConnectionManagerBuilder.create()
                        .setMaxConnPerRoute(16).setMaxConnTotal(16).build()).build();
                call = name -> client.execute(new HttpGet("http://" + backend + "/b/" + name), response -> {
                    EntityUtils.consume(response.getEntity());
                    if (response.getCode() != 200) {
                        throw new IOException("backend: " + response.getCode());
                    }
                    return null;
                });
                break;
            case "sql":
                HikariConfig config = new HikariConfig();
                config.setJdbcUrl("jdbc:postgresql://" + backend + "/postgres");
                config.setUsername("postgres");
                config.setMaximumPoolSize(16);
                HikariDataSource source = new HikariDataSource(config);
                call = name -> {
                    double wait = Math.floorMod(name.hashCode(), 20) / 1000.0;
                    try (Connection connection = source.getConnection(); Statement statement = connection.createStatement()) {
                        statement.execute("select '" + name + "', pg_sleep(" + wait + ")");
                    }
                };
                break;
            case "redis":
                JedisPooled jedis = new JedisPooled("redis://" + backend);
                call = name -> jedis.set(name, "1");
                break;
            default:
                throw new IllegalArgumentException("--style");
        }
    }

    @Override
    public void handle(String target, Request base, HttpServletRequest request, HttpServletResponse response)
        throws IOException {
        base.setHandled(true);
        String token = target.substring("/r/".length());
        String k = request.getParameter("k");
        boolean parallel = "1".equals(request.getParameter("par"));
        try {
            List<Future<?>> pending = new ArrayList<>();
            for (int i = 0; i < Math.min(64, k == null ? 1 : Integer.parseInt(k)); i++) {
                String name = token + "/" + i;
                if (parallel) {
                    pending.add(callers.submit(() -> {
                        call.make(name);
                        return null;
                    }));
                } else {
                    call.make(name);
                }
            }
            for (Future<?> one : pending) {
                one.get();
            }
        } catch (Exception e) {
            response.setStatus(502);
        }
        response.getOutputStream().print("ok\n");
    }

    public static void main(String[] words) throws Exception {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i + 1 < words.length; i += 2) {
            options.put(words[i].substring(2), words[i + 1]);
        }
        Server server = new Server(new QueuedThreadPool(48));
        ServerConnector connector = new ServerConnector(server);
        connector.setHost("127.0.0.1");
        connector.setPort(Integer.parseInt(options.get("port")));
        connector.setAcceptQueueSize(1024);
        server.addConnector(connector);
        server.setHandler(new WebService(options));
        server.start();
        server.join();
    }
}
