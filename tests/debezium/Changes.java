import io.debezium.embedded.Connect;
import io.debezium.engine.DebeziumEngine;
import java.io.FileReader;
import java.util.Base64;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.storage.Converter;
import org.apache.kafka.connect.storage.StringConverter;

/** Prints the records that a connector would write, as its converters make them: Changes PROPERTIES. */
public class Changes {
    public static void main(String[] arguments) throws Exception {
        var properties = new Properties();
        try (var file = new FileReader(arguments[0])) {
            properties.load(file);
        }
        var keys = new StringConverter();
        keys.configure(Map.of(), true);
        var values = new JsonConverter();
        values.configure(Map.of("schemas.enable", "false"), false);
        var engine = DebeziumEngine.create(Connect.class)
                .using(properties)
                .using((success, message, error) -> {
                    if (!success) {
                        System.err.println(message + " " + error);
                    }
                })
                .notifying(event -> {
                    var record = event.value();
                    var key = text(keys.fromConnectData(record.topic(), record.keySchema(), record.key()));
                    var value = text(values.fromConnectData(record.topic(), record.valueSchema(), record.value()));
                    System.out.println(record.topic() + "\t" + key + "\t" + value);
                })
                .build();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                engine.close();
            } catch (Exception error) {
                System.err.println(error);
            }
        }));
        engine.run();
    }

    /** Base64; "-" for null. */
    private static String text(byte[] bytes) {
        return bytes == null ? "-" : Base64.getEncoder().encodeToString(bytes);
    }
}
