// The functions of tests/sdks.rs, written with StateFun's Java SDK 3.3.0 as it is published. Usage: java Functions PORT

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import org.apache.flink.statefun.sdk.java.Context;
import org.apache.flink.statefun.sdk.java.Expiration;
import org.apache.flink.statefun.sdk.java.StatefulFunction;
import org.apache.flink.statefun.sdk.java.StatefulFunctionSpec;
import org.apache.flink.statefun.sdk.java.StatefulFunctions;
import org.apache.flink.statefun.sdk.java.TypeName;
import org.apache.flink.statefun.sdk.java.ValueSpec;
import org.apache.flink.statefun.sdk.java.handler.RequestReplyHandler;
import org.apache.flink.statefun.sdk.java.io.KafkaEgressMessage;
import org.apache.flink.statefun.sdk.java.message.EgressMessageBuilder;
import org.apache.flink.statefun.sdk.java.message.Message;
import org.apache.flink.statefun.sdk.java.message.MessageBuilder;
import org.apache.flink.statefun.sdk.java.slice.Slice;
import org.apache.flink.statefun.sdk.java.slice.Slices;
import org.apache.flink.statefun.sdk.java.types.SimpleType;
import org.apache.flink.statefun.sdk.java.types.Type;

public final class Functions {
    static final TypeName COUNTER = TypeName.typeNameFromString("sdk/counter");
    static final TypeName MIRROR = TypeName.typeNameFromString("sdk/mirror");
    static final TypeName OUT = TypeName.typeNameFromString("sdk/out");
    static final TypeName GENERIC = TypeName.typeNameFromString("sdk/generic");
    static final Duration DAY = Duration.ofDays(1);
    static final ValueSpec<Integer> COUNT =
            ValueSpec.named("count").thatExpireAfterWrite(DAY).withIntType();
    static final ValueSpec<String> LAST =
            ValueSpec.named("last").thatExpiresAfterCall(DAY).withUtf8StringType();
    static final ValueSpec<Integer> TOLD = ValueSpec.named("count").withIntType();
    // A type of one's own: here a number in decimal digits.
    static final Type<Integer> DIGITS =
            SimpleType.simpleTypeFrom(
                    TypeName.typeNameFromString("sdk/digits"),
                    number -> number.toString().getBytes(StandardCharsets.UTF_8),
                    bytes -> Integer.valueOf(new String(bytes, StandardCharsets.UTF_8)));

    static final class Counter implements StatefulFunction {
        @Override
        public CompletableFuture<Void> apply(Context context, Message message) {
            int count = context.storage().get(COUNT).orElse(0) + 1;
            String text = message.asUtf8String();
            context.storage().set(COUNT, count);
            context.storage().set(LAST, text);
            String id = context.self().id();
            context.send(
                    KafkaEgressMessage.forEgress(OUT)
                            .withTopic("out/" + id)
                            .withUtf8Value(count + " " + text)
                            .build());
            Message mirror = MessageBuilder.forAddress(MIRROR, "m" + id).withValue(count).build();
            context.send(mirror);
            if (count % 3 == 0) {
                context.sendAfter(Duration.ofMillis(20), mirror);
            }
            // What is never to come: it is cancelled by the next message.
            if (1 < count) {
                context.cancelDelayedMessage(id + "-" + (count - 1));
            }
            context.sendAfter(Duration.ofDays(30), id + "-" + count, mirror);
            if (count % 5 == 0) {
                context.send(EgressMessageBuilder.forEgress(GENERIC).withCustomType(DIGITS, count).build());
            }
            return context.done();
        }
    }

    static final class Mirror implements StatefulFunction {
        @Override
        public CompletableFuture<Void> apply(Context context, Message message) {
            if (!message.isInt()) {
                throw new IllegalStateException("no int");
            }
            int count = context.storage().get(TOLD).orElse(0) + 1;
            context.storage().set(TOLD, count);
            context.send(
                    KafkaEgressMessage.forEgress(OUT)
                            .withTopic("out/" + context.self().id())
                            .withUtf8Value(count + " " + count)
                            .build());
            return context.done();
        }
    }

    public static void main(String[] arguments) throws Exception {
        StatefulFunctions functions = new StatefulFunctions();
        functions.withStatefulFunction(
                StatefulFunctionSpec.builder(COUNTER).withValueSpecs(COUNT, LAST).withSupplier(Counter::new).build());
        functions.withStatefulFunction(
                StatefulFunctionSpec.builder(MIRROR).withValueSpecs(TOLD).withSupplier(Mirror::new).build());
        RequestReplyHandler handler = functions.requestReplyHandler();
        HttpServer server =
                HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])), 128);
        server.createContext("/", exchange -> answer(handler, exchange));
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.start();
    }

    static void answer(RequestReplyHandler handler, HttpExchange exchange) {
        try (exchange) {
            Slice request = Slices.wrap(exchange.getRequestBody().readAllBytes());
            byte[] reply = handler.handle(request).get().toByteArray();
            exchange.getResponseHeaders().set("content-type", "application/octet-stream");
            exchange.sendResponseHeaders(200, reply.length == 0 ? -1 : reply.length);
            exchange.getResponseBody().write(reply);
        } catch (Exception error) {
            try {
                exchange.sendResponseHeaders(500, -1);
            } catch (java.io.IOException gone) {
                // The node that asked was killed.
            }
        }
    }
}
