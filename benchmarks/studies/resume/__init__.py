"""What a resume costs on a file system whose every answer takes its time."""
