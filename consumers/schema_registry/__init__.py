"""Values that a schema registry framed, in Avro, Protobuf or JSON Schema, read by the very schema that wrote them."""
