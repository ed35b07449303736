import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Prints each user's newest list, and each that follows: java Subscribe.java BOOTSTRAP [TOPIC] */
public class Subscribe {
    public static void main(String[] arguments) throws Exception {
        String topic = arguments.length > 1 ? arguments[1] : "recommendations";
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", arguments[0],
            "group.id", "lists-" + UUID.randomUUID(), // every reader gets all lists
            "auto.offset.reset", "earliest",
            "enable.auto.commit", false,
            "isolation.level", "read_committed");
        ObjectMapper json = new ObjectMapper();
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            while (true) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    ObjectNode shown = json.createObjectNode().put("user_id", record.key());
                    if (record.value() == null) {
                        shown.putNull("items");
                    } else {
                        var items = shown.putArray("items");
                        for (JsonNode item : json.readTree(record.value()).get("items")) {
                            items.add(item.get("item_id").asText());
                        }
                    }
                    System.out.println(shown);
                }
            }
        }
    }
}
