import { plant } from './plant.ts';

/** `node --import 'file:///…/register.ts?bug=NAME'` */
plant(new URL(import.meta.url).searchParams.get('bug') ?? '');
