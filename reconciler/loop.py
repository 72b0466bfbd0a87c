"""The only driver: snapshot → decide → act → absorb, the same over the real server and over the simulation."""
