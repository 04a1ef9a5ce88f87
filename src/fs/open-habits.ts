import { LRUCache } from 'lru-cache';

/** A thread that opened so many files it had looked up, one after the other, will open the next one, too. */
const openedMin = 2;

interface Habit {
  /** The file it looked up last, until it opens that. */
  looked: number | undefined;
  opened: number;
}

/**
 * Which threads open the files they look up: a web server, a loader of images, anything that reads files in no order. For them the attributes of a small
 * file come with its bytes, in one round trip instead of two. A thread that only looks (`ls -l`, `find`, `rsync`) gets no bytes.
 */
export class OpenHabits {
  /** By thread: the kernel says which one asks, and open(2) looks up and opens in the same. */
  private readonly habits = new LRUCache<number, Habit>({ max: 1024 });

  /** The thread looked up a file whose attributes S3 has to be asked for. @returns whether it will open it. */
  lookedUp(thread: number, ino: number): boolean {
    let habit = this.habits.get(thread);
    if (!habit) this.habits.set(thread, (habit = { looked: undefined, opened: 0 }));
    if (habit.looked !== undefined && habit.looked !== ino) habit.opened = 0; // that one it did not open
    habit.looked = ino;
    return habit.opened >= openedMin;
  }

  opened(thread: number, ino: number): void {
    const habit = this.habits.get(thread);
    if (habit?.looked !== ino) return;
    habit.looked = undefined;
    habit.opened++;
  }

  /** Its guess was no use. */
  forget(thread: number): void {
    this.habits.delete(thread);
  }
}
