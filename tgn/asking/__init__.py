"""What is asked of a model beside the lists that it publishes; nothing here changes it."""
