"""Feeds whose venues send packets: from captures of them, and live over multicast."""
