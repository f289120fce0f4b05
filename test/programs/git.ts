/** git in a mount: a repository of some hundred commits, beside the same on the native file system; and in the past. */
import assert from 'node:assert/strict';
import { type ProgramCase, quoted } from './harness.ts';

const COMMITS = 200;
/** The commit from which on the check of the bisection fails. */
const BAD = 137;

/** The environment that makes a commit's name depend on nothing but its content. */
const GIT = `export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_COUNT=5 \
GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=n GIT_CONFIG_KEY_1=user.email GIT_CONFIG_VALUE_1=e@example.org \
GIT_CONFIG_KEY_2=safe.directory GIT_CONFIG_VALUE_2='*' GIT_CONFIG_KEY_3=init.defaultBranch GIT_CONFIG_VALUE_3=main \
GIT_CONFIG_KEY_4=advice.detachedHead GIT_CONFIG_VALUE_4=false
clean() { test -z "$(git -C "$1" status --porcelain --ignored)"; git -C "$1" diff-index --quiet HEAD; }
`;

/** Makes the repository `origin` below the working directory. The automatic gc runs in between, as it does for people. */
const HISTORY = `
git init -q origin; cd origin; git config gc.auto 400; git config gc.autoDetach false; mkdir -p source/deep/er
for i in $(seq ${COMMITS}); do
  export GIT_AUTHOR_DATE="@$((1700000000 + i * 60)) +0100" GIT_COMMITTER_DATE="@$((1700000000 + i * 60)) +0100"
  seq $i $((i + 40)) > source/file-$((i % 17)); echo "line $i" >> source/deep/er/log; echo $i > version
  case $((i % 10)) in
    3) git mv -k source/file-$((i % 17)) source/deep/moved-$i ;;
    5) ln -sfn file-$((i % 17)) source/link ;;
    7) git rm -qf --ignore-unmatch source/deep/moved-* ;;
    9) printf '#!/bin/sh\\necho %s\\n' $i > source/run; chmod +x source/run ;;
  esac
  git add -A; git commit -qm "commit $i"
  if [ $((i % 50)) = 0 ]; then git tag -am "tag $i" v$i; git checkout -q -b side-$i HEAD~3; echo $i > side-$i; git add -A; git commit -qm "side $i"; git checkout -q main; git merge -q --no-edit side-$i; fi
done
cd ..
`;

/** What is the same in each place where the same was done. */
const SUMMARY = `git -C origin for-each-ref; git -C origin log --all --format='%H %T %ct %s' | sha256sum; git -C origin ls-files -s | sha256sum; git -C origin grep -c line | sort`;

export const GIT_CASES: readonly ProgramCase[] = [
  {
    name: 'git',
    checks: `${COMMITS} commits, clones, gc, fsck, worktrees, bisect run, status is clean; the same commits as on the native file system`,
    needs: ['git'],
    async run(scene) {
      const where = await scene.store();
      await where.shell('mkdir native', where.base);
      const inMount = await where.shell(GIT + HISTORY + SUMMARY);
      const native = await where.shell(GIT + HISTORY + SUMMARY, `${where.base}/native`);
      assert.equal(inMount, native);
      await where.shell(`${GIT}
        git -C origin fsck --full --strict; clean origin
        git clone -q --no-local origin clone; git clone -q origin linked; git clone -q --shared origin shared; git clone -q --mirror origin mirror.git
        for at in clone linked shared mirror.git; do git -C $at fsck --full --strict; done; for at in clone linked shared; do clean $at; done
        git -C clone gc -q --aggressive --prune=now; git -C clone fsck --full --strict; clean clone
        git -C clone repack -qadf --write-bitmap-index; git -C clone commit-graph write --reachable; git -C clone commit-graph verify; git -C clone multi-pack-index write; git -C clone multi-pack-index verify
        git -C clone fsck --full; clean clone
        git clone -q --no-local origin ../outside; diff -r -x .git clone ../outside`);
      // Nothing looks changed to the index when it is asked again, at once, later, or behind a fresh mount.
      await where.shell(
        `${GIT} git -C clone update-index --refresh; test -z "$(git -C clone diff-files --name-only)";`,
      );
      await where.unmount();
      await where.mount();
      await where.shell(
        `${GIT} export GIT_OPTIONAL_LOCKS=0; test -z "$(git -C clone diff-files --name-only)"; clean clone`,
      );

      const bisected = await where.shell(`${GIT}
        cd clone; git worktree add -q ../tree-a v50; git worktree add -q -b work ../tree-b v100; git worktree list --porcelain | grep -c '^worktree '
        test "$(cat ../tree-a/version)" = 50; cd ../tree-b; echo more > more; git add more; git commit -qm more; cd ../clone; git log -1 --format=%s work
        git worktree move ../tree-b ../tree-c; git -C ../tree-c status --porcelain; git worktree lock ../tree-c; ! git worktree remove ../tree-c 2> /dev/null; git worktree unlock ../tree-c
        cd ../tree-a; git bisect start origin/main v50 > /dev/null 2>&1; git bisect run sh -c 'test $(cat version) -lt ${BAD}' > ../bisected; git show -s --format=%s refs/bisect/bad; git bisect reset > /dev/null 2>&1
        cd ../clone; git worktree remove ../tree-a; git worktree remove ../tree-c; git worktree prune; test ! -e ../tree-a; git fsck --full; git worktree list | wc -l`);
      assert.equal(bisected, `3\nmore\ncommit ${BAD}\n1\n`);
      await where.shell(`${GIT}
        cd linked; git checkout -q -b topic v150; for i in 1 2 3 4 5; do echo $i > topic-$i; git add topic-$i; git commit -qm "topic $i"; done; git rebase -q main; test "$(git rev-list --count main..topic)" = 5; clean .
        echo stash >> version; git stash -q; clean .; git stash pop -q; test -n "$(git status --porcelain)"; git checkout -q -- .; git cherry-pick v50^{commit} > /dev/null 2>&1 && exit 1; git cherry-pick --abort
        git push -q ../mirror.git topic:pushed; git -C ../mirror.git fsck --full; cd ../shared; git fetch -q ../linked topic; git fsck --full`);
      scene.note(`${inMount.split('\n').length} references and files compared`);
    },
  },
  {
    name: 'git-past',
    checks:
      'log, fsck, status, grep, blame, archive and clone inside @NAME and @lsn-N, while the live repository goes on',
    needs: ['git', 'tar'],
    async run(scene) {
      const where = await scene.store();
      await where.shell(GIT + HISTORY);
      const questions = [
        'git log --stat --all',
        'git status --porcelain=v2 --branch',
        'git fsck --full --strict',
        'git grep -n line',
        'git blame source/deep/er/log',
        'git diff v50 HEAD',
        'git ls-files -s',
        'git worktree list --porcelain | grep -v ^worktree',
        'git archive HEAD | tar -t',
        'git show :version',
        'git diff HEAD',
      ];
      const answers = (directory: string) =>
        where.shell(
          `${GIT} export GIT_OPTIONAL_LOCKS=0; cd ${quoted(directory)}; ${questions.join('; echo; ')}`,
        );
      // As it is when somebody is amid something: staged, changed, not tracked.
      await where.shell(
        'cd origin; echo staged > staged; git add staged; echo changed >> version; echo new > untracked',
      );
      const before = await answers('origin');
      const lsn = await where.snapshot('amid');
      await where.shell(`${GIT}
        cd origin; git reset -q --hard v100; git branch -q -D side-150 side-200; git tag -d v200 > /dev/null; git reflog expire --expire=now --all; git gc -q --prune=now; git fsck --full; test -z "$(git branch --list side-200)"`);
      for (const name of ['@amid', `@lsn-${lsn}`]) {
        assert.equal(await answers(`${name}/origin`), before, name);
        await where.shell(`${GIT}
          git clone -q "file://$PWD/${name}/origin" "../${name}"; git -C "../${name}" fsck --full; test "$(git -C "../${name}" rev-parse HEAD)" = "$(git -C ${name}/origin rev-parse HEAD)"
          ! git -C ${name}/origin commit -qam no 2> ../refused; grep -q 'Read-only file system' ../refused`);
      }
    },
  },
];
