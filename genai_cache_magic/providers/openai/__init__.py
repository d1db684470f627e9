"""OpenAI's wire APIs, also as Azure and compatible servers speak them."""
