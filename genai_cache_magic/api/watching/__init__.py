"""What is told and looked at while calls are made: monitors, and rules that raise alerts."""
