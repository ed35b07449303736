import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Map;
import java.util.UUID;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/** Writes interactions, one JSON object a line of stdin: java Produce.java BOOTSTRAP [TOPIC] */
public class Produce {
    public static void main(String[] arguments) throws Exception {
        String topic = arguments.length > 1 ? arguments[1] : "interactions";
        Map<String, Object> settings = Map.of("bootstrap.servers", arguments[0], "acks", "all", "enable.idempotence", true);
        ObjectMapper json = new ObjectMapper();
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
                var lines = new BufferedReader(new InputStreamReader(System.in))) {
            for (String line; (line = lines.readLine()) != null; ) {
                ObjectNode event = (ObjectNode) json.readTree(line);
                if (!event.has("event_id")) {
                    event.put("event_id", UUID.randomUUID().toString());
                }
                String user = event.get("user_id").asText();
                producer.send(new ProducerRecord<>(topic, user, event.toString()), (written, error) -> {
                    if (error != null) {
                        System.err.println("not written: " + error);
                        Runtime.getRuntime().halt(1);
                    }
                });
            }
        }
    }
}
