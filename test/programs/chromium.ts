/** A Chromium profile on a mount: its databases (LevelDB, SQLite) are written, found again, and whole. */
import assert from 'node:assert/strict';
import type { ProgramCase } from './harness.ts';

const OPTIONS =
  '--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync --disable-dev-shm-usage --password-store=basic --no-default-browser-check';

/** Counts its visits in localStorage, with a longer text each; shows what it found. */
const PAGE = `<!doctype html><title>page</title><p id="found">nothing</p><script>
const visits = Number(localStorage.getItem('visits') ?? 0) + 1;
localStorage.setItem('visits', visits);
localStorage.setItem('text-' + visits, 'x'.repeat(1000 * visits));
const whole = [...Array(visits).keys()].every((i) => localStorage.getItem('text-' + (i + 1)) === 'x'.repeat(1000 * (i + 1)));
document.getElementById('found').textContent = 'visit ' + visits + ' whole ' + whole;
</script>`;

export const CHROMIUM_CASES: readonly ProgramCase[] = [
  {
    name: 'chromium',
    checks:
      'a profile on the mount: localStorage is there at the next start, also of a copy of the past; its SQLite files are whole',
    needs: ['chromium', 'sqlite3'],
    async run(scene) {
      const where = await scene.store();
      await where.shell(`cat > page.html <<'END'\n${PAGE}\nEND`, where.base);
      const visit = async (profile: string) => {
        const said = await where.shell(
          `export HOME='${where.base}/home' XDG_RUNTIME_DIR='${where.base}/home'; mkdir -p "$HOME"; timeout -k 5 120 chromium ${OPTIONS} --user-data-dir='${profile}' --dump-dom 'file://${where.base}/page.html' 2> '${where.base}/chromium.log'`,
          where.base,
        );
        return /<p id="found">([^<]*)/.exec(said)?.[1];
      };
      const profile = `${where.mountpoint}/profile`;
      for (let i = 1; i <= 3; i++) assert.equal(await visit(profile), `visit ${i} whole true`);
      await where.snapshot('three');
      await where.unmount();
      await where.mount();
      assert.equal(await visit(profile), 'visit 4 whole true', 'behind a fresh mount');
      await where.shell('cp -a @three/profile ../copy; rm -f ../copy/Singleton*');
      assert.equal(await visit(`${where.base}/copy`), 'visit 4 whole true', 'a copy of the past');
      // After a crash of the mount it is whole: what nobody synced may be gone.
      await where.kill();
      await where.mount();
      const [, visits] = /^visit (\d+) whole true$/.exec((await visit(profile)) ?? '') ?? [];
      assert.ok(Number(visits) >= 4, `after SIGKILL: ${visits}`);
      const checked = await where.shell(
        `find profile -type f -size +0 | while read -r file; do if [ "$(head -c 15 "$file" | tr -d '\\0')" = 'SQLite format 3' ]; then test "$(sqlite3 "$file" 'PRAGMA integrity_check')" = ok || { echo "$file"; exit 1; }; echo "$file"; fi; done | wc -l`,
      );
      assert.ok(Number(checked) > 3);
      scene.note(
        `${checked.trim()} SQLite databases, ${(await where.shell('find profile | wc -l')).trim()} files`,
      );
    },
  },
];
