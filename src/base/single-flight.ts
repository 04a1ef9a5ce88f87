/** Joins concurrent calls for the same key into one. The map is bounded by work in flight. */
export class SingleFlight<K, V> {
  private readonly flights = new Map<K, Promise<V>>();

  get(key: K): Promise<V> | undefined {
    return this.flights.get(key);
  }

  run(key: K, fn: () => Promise<V>): Promise<V> {
    const existing = this.flights.get(key);
    if (existing) return existing;
    const flight = fn().finally(() => {
      if (this.flights.get(key) === flight) this.flights.delete(key);
    });
    this.flights.set(key, flight);
    return flight;
  }
}
