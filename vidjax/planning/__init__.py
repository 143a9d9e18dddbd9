"""What a compiled training program will cost on TPUs that are not here."""
