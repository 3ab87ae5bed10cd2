"""What was refused: its share, the pause, the copy on the topic, the replay."""
