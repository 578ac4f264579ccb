import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.time.OffsetDateTime;
import java.util.Base64;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The join and the deduplication alone, on Kafka Streams with exactly_once_v2: experiences and feedback in, one record
 * for each out. Arguments: broker, prefix, state folder, session timeout and commit interval in milliseconds.
 */
public final class JoinPeer {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final double USER_WEIGHT = 0.7, FLOOR = 0.05, DEFAULT_CONFIDENCE = 0.5, IMPLICIT_WEIGHT = 0.3;

    public static void main(String[] args) {
        Properties config = new Properties();
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1] + "peer");
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        config.put(StreamsConfig.STATE_DIR_CONFIG, args[2]);
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        config.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, args[4]);
        config.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), args[3]);
        config.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");

        String experiences = args[1] + "experiences";
        var bytes = Serdes.ByteArray();
        StreamsBuilder builder = new StreamsBuilder();
        for (String name : List.of("known", "latest", "seen")) {
            builder.addStateStore(
                    Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(name), Serdes.String(), bytes));
        }
        builder.stream(List.of(experiences, args[1] + "feedback"), Consumed.with(Serdes.String(), bytes))
                .process(() -> new Join(experiences), "known", "latest", "seen")
                .to(args[1] + "joined", Produced.with(Serdes.String(), bytes));

        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        streams.setUncaughtExceptionHandler(error -> StreamThreadExceptionResponse.SHUTDOWN_CLIENT);
        streams.setStateListener((state, before) -> {
            if (state == KafkaStreams.State.ERROR) {
                System.exit(1);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    /** Keeps experiences, each source's judgement that counts, and the ids of the feedback that was seen. */
    private static final class Join implements Processor<String, byte[], String, byte[]> {
        private final String experiences;
        private ProcessorContext<String, byte[]> context;
        private KeyValueStore<String, byte[]> known, latest, seen;

        Join(String experiences) {
            this.experiences = experiences;
        }

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            this.context = context;
            known = context.getStateStore("known");
            latest = context.getStateStore("latest");
            seen = context.getStateStore("seen");
        }

        @Override
        public void process(Record<String, byte[]> record) {
            boolean arrives = context.recordMetadata().orElseThrow().topic().equals(experiences);
            try {
                JsonNode event = JSON.readTree(record.value());
                byte[] joined = arrives ? arrived(record.key(), event) : judged(record.key(), event);
                if (joined != null) {
                    context.forward(record.withValue(joined).withTimestamp(context.currentSystemTimeMs()));
                }
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }

        /** Returns a line of JSON and the embeddings, as little-endian floats. */
        private byte[] arrived(String id, JsonNode event) throws IOException {
            if (known.get(id) != null) {
                return null;
            }
            ObjectNode head = JSON.createObjectNode();
            head.put("experience_id", id);
            head.put("query", event.get("query").textValue());
            head.put("intent_type", event.at("/intent/type").textValue());
            var items = head.putArray("items");
            ByteArrayOutputStream vectors = new ByteArrayOutputStream();
            vectors.write(vector(event.get("query_embedding")));
            JsonNode embeddings = event.get("item_embeddings");
            for (JsonNode widget : event.get("widget_plan")) {
                items.add(widget.get("widget_id"));
                vectors.write(vector(embeddings.get(widget.get("widget_id").textValue())));
            }
            if (event.hasNonNull("voice_reply")) {
                items.add("voice");
                vectors.write(vector(embeddings.get("voice")));
            }
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            out.write(JSON.writeValueAsBytes(head));
            known.put(id, out.toByteArray());
            out.write('\n');
            vectors.writeTo(out);
            return out.toByteArray();
        }

        private static byte[] vector(JsonNode given) throws IOException {
            if (given.isTextual()) {
                return Base64.getDecoder().decode(given.textValue());
            }
            ByteBuffer floats = ByteBuffer.allocate(4 * given.size()).order(ByteOrder.LITTLE_ENDIAN);
            given.forEach(value -> floats.putFloat(value.floatValue()));
            return floats.array();
        }

        private byte[] judged(String id, JsonNode event) throws IOException {
            byte[] experience = known.get(id);
            String feedback = event.get("feedback_id").textValue(), source = event.get("source").textValue();
            if (experience == null || seen.get(feedback) != null) {
                return null;
            }
            seen.put(feedback, new byte[0]);
            byte[] before = latest.get(id);
            ObjectNode judgements = before == null ? JSON.createObjectNode() : (ObjectNode) JSON.readTree(before);
            if (judgements.has(source) && time(event).isBefore(time(judgements.get(source)))) {
                return null;
            }
            judgements.set(source, event);
            latest.put(id, JSON.writeValueAsBytes(judgements));
            ObjectNode joined = (ObjectNode) JSON.readTree(experience);
            joined.put("feedback_id", feedback);
            var rewards = joined.putArray("rewards");
            joined.get("items").forEach(item -> rewards.add(reward(judgements, item.textValue())));
            return JSON.writeValueAsBytes(joined);
        }

        private static OffsetDateTime time(JsonNode judgement) {
            return OffsetDateTime.parse(judgement.get("timestamp").textValue());
        }

        /** Blends what user and evaluator said of an item, as `trainers/reward.py` does. */
        private static Double reward(JsonNode judgements, String item) {
            JsonNode evaluator = judgements.get("evaluator");
            Double user = said(judgements.get("user"), item), other = said(evaluator, item);
            if (!judgements.has("user") && evaluator == null) {
                Double implicit = said(judgements.get("implicit"), item);
                return implicit == null ? null : IMPLICIT_WEIGHT * implicit;
            }
            if (other == null) {
                return user;
            }
            double weighted = evaluator.path("evaluation_confidence").asDouble(DEFAULT_CONFIDENCE) * other;
            if (user == null) {
                return weighted;
            }
            double blended = USER_WEIGHT * user + (1 - USER_WEIGHT) * weighted;
            return user != 0 && blended * user <= 0 ? Math.copySign(FLOOR, user) : Double.valueOf(blended);
        }

        private static Double said(JsonNode judgement, String item) {
            if (judgement == null) {
                return null;
            }
            JsonNode own = judgement.path("voice_reward");
            if (!item.equals("voice")) {
                own = judgement.path("none");
                for (JsonNode entry : judgement.path("per_widget_feedback")) {
                    own = entry.get("widget_id").textValue().equals(item) ? entry.get("reward") : own;
                }
            }
            JsonNode counts = own.isNumber() ? own : judgement.path("reward");
            return counts.isNumber() ? counts.doubleValue() : null;
        }
    }
}
