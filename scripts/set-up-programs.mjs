/** What `npm run test:programs` needs: what `npm test` does, and the programs that are tried on a mount. */
import { setUpOrExit } from './set-up.mjs';

setUpOrExit('programs');
