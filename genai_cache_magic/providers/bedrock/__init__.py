"""The wire APIs of Amazon Bedrock's runtime."""
