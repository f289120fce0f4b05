/** Cases of the corruption laboratory by number: what `npm test` samples and the long run does at length. */
import { CONTROL_NAME, CONTROL_SLOT_SIZE } from '../../src/encoding/control.ts';
import { Random } from '../helpers/random.ts';
import { type Damage, DamageSource, flip } from './corruption-damage.ts';
import { buildStore, fileBytes, RECIPES, type StoreRecipe } from './corruption-store.ts';
import { Finding, Laboratory, type Outcome } from './corruption-use.ts';

/** One case in so many goes on with changes, the check and a second opening. */
const THOROUGH_EVERY = 4;

/** One case in so many has two pieces of damage. */
const DOUBLE_EVERY = 6;

function both(one: Damage, other: Damage): Damage {
  return {
    what: `${one.what}, and ${other.what}`,
    touched: [...one.touched, ...other.touched],
    apply: (directory) => {
      one.apply(directory);
      // The file may be gone, or shorter, by the first.
      const place = other.touched[0]!;
      if (directory.exists(place.file) || other.creates === true) other.apply(directory);
    },
  };
}

/** A store with everything that is needed to damage it. */
export interface Prepared {
  readonly name: string;
  readonly laboratory: Laboratory;
  readonly source: DamageSource;
}

/** A case that went wrong, with the command that does it again. */
export class FailedCase extends Error {
  override readonly name = 'FailedCase';
}

export async function prepare(recipe: StoreRecipe, seed: number): Promise<Prepared> {
  const stranger = await buildStore(
    { name: 'stranger', pageSize: 4096, crashed: false, small: true },
    seed + 1,
  );
  const built = await buildStore(recipe, seed);
  return {
    name: recipe.name,
    laboratory: await Laboratory.over(built),
    source: new DamageSource(built, stranger),
  };
}

export function recipe(name: string): StoreRecipe {
  const found = RECIPES.find((one) => one.name === name);
  if (found === undefined)
    throw new Error(`there is no store "${name}": ${RECIPES.map((one) => one.name).join(', ')}`);
  return found;
}

function randomOf(seed: number, index: number): Random {
  const random = new Random((seed * 1_000_003 + index) % 2 ** 31);
  // Seeds that are close together begin alike.
  for (let i = 0; i < 8; i++) random.next();
  return random;
}

async function run(
  prepared: Prepared,
  damage: Damage,
  random: Random,
  thorough: boolean,
  again: string,
): Promise<Outcome> {
  try {
    return await prepared.laboratory.run(damage, random, thorough);
  } catch (error) {
    const text =
      error instanceof Finding ? error.message : error instanceof Error ? error.stack : String(error);
    throw new FailedCase(`${prepared.name}, ${damage.what}: ${text}\nagain: ${again}`);
  }
}

/** The case with this number. @throws FailedCase */
export function runCase(prepared: Prepared, seed: number, index: number): Promise<Outcome> {
  const random = randomOf(seed, index);
  const one = prepared.source.draw(random);
  const damage = index % DOUBLE_EVERY === 1 ? both(one, prepared.source.draw(random)) : one;
  const again = `npm run test:corruption -- --store ${prepared.name} --seed ${seed} --case ${index}`;
  return run(prepared, damage, random, index % THOROUGH_EVERY === 0, again);
}

/** A byte of a store: its file and offset. */
export interface BytePlace {
  readonly file: string;
  readonly offset: number;
}

/** Every byte of a store's control file, data file, and log as far as it is written and a little further. */
export function* everyByte({ laboratory }: Prepared): Generator<BytePlace> {
  const { directory, frames } = laboratory.built;
  for (let offset = 0; offset < 2 * CONTROL_SLOT_SIZE; offset++) yield { file: CONTROL_NAME, offset };
  const { length } = fileBytes(directory, 'data');
  for (let offset = 0; offset < length; offset++) yield { file: 'data', offset };
  const last = frames[frames.length - 1]!;
  for (let offset = 0; offset < last.to + 100; offset++) yield { file: last.file, offset };
}

/** Flips bits of one byte. @throws FailedCase */
export function runByte(prepared: Prepared, seed: number, place: BytePlace): Promise<Outcome> {
  const random = randomOf(seed, place.offset);
  const mask = random.below(2) === 0 ? 1 << random.below(8) : 1 + random.below(255);
  const again = `npm run test:corruption -- --store ${prepared.name} --seed ${seed} --byte ${place.file}:${place.offset}`;
  return run(prepared, flip(place.file, place.offset, mask), random, random.below(16) === 0, again);
}
