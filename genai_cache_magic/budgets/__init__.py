"""What calls may cost in all: reserved before a call is made, settled when its price is known, stopped beyond."""
